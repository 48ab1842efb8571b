// Sends one invoice to Paylinks by HTTP. Needs nothing but Node.js 18.
//
//     PAYLINKS_API_KEY=... node publish-invoice-http.js [invoice.json]
//
// PAYLINKS_URL             http://127.0.0.1:8080
// PAYLINKS_API_KEY         from `paylinks keys create`, bound to your CRM
// PAYLINKS_WAIT_SECONDS    60: how long to try while Paylinks cannot be reached
//
// Prints the answer as JSON. Exit code 0: accepted; 1: refused, or not reached in time; 2: no invoice.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";

const url = new URL("/v1/invoices", process.env.PAYLINKS_URL ?? "http://127.0.0.1:8080");
const key = process.env.PAYLINKS_API_KEY ?? "";
const waitSeconds = Number(process.env.PAYLINKS_WAIT_SECONDS ?? 60);

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const say = (text) => console.error(text);

function sampleInvoice() {
  return {
    crm: "acme-bitrix24",
    invoice_id: `NODE-${Date.now()}`,
    version: 1,
    // Minor units, a whole number: 890.00 EUR.
    amount_minor: 89000,
    currency: "EUR",
    purpose: "Translation of technical documents, 14 pages",
    customer: { name: "Élodie Martin", email: "elodie.martin@example.com", locale: "en" },
  };
}

// Another body or another key would be another wish; what is repeated must be the same.
function makeRequest(invoice) {
  return {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${key}`,
      // Tells a repeat from a new wish where the CRM counts no versions. With a version it changes nothing.
      "idempotency-key": randomUUID(),
    },
    body: JSON.stringify(invoice),
  };
}

const isPassing = (status) => status === 429 || status >= 500;

async function sendUntilAnswered(request) {
  const until = Date.now() + waitSeconds * 1000;
  for (let seconds = 0.5; ; seconds = Math.min(seconds * 2, 10)) {
    let retryAfter = 0;
    try {
      const response = await fetch(url, { ...request, signal: AbortSignal.timeout(10_000) });
      if (!isPassing(response.status)) return response;
      retryAfter = Number(response.headers.get("retry-after")) || 0;
      say(`not taken: HTTP ${response.status}; trying again`);
    } catch (error) {
      say(`not reached: ${error.cause?.message ?? error.message}; trying again`);
    }
    const longer = Math.max(seconds, retryAfter);
    if (Date.now() + longer * 1000 > until) return null;
    await pause(longer);
  }
}

async function main() {
  const file = process.argv[2];
  const invoice = file ? JSON.parse(await readFile(file, "utf8")) : sampleInvoice();
  const response = await sendUntilAnswered(makeRequest(invoice));
  if (response === null) {
    say("not reached in time; send the same body again later");
    return 1;
  }
  console.log(JSON.stringify(await response.json(), null, 2));
  return response.status === 202 ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (error) => {
    say(`publish-invoice-http: ${error.message}`);
    process.exit(2);
  },
);
