// Sends one invoice to Paylinks by AMQP and waits until Paylinks has taken it.
//
//     npm ci
//     node publish-invoice.js                  a sample invoice
//     node publish-invoice.js invoice.json     yours: the `data` of an invoice.created.v1
//
// PAYLINKS_AMQP_URL           amqp://guest:guest@127.0.0.1:5672/
// PAYLINKS_INTAKE_EXCHANGE    paylinks.intake
// PAYLINKS_EVENTS_EXCHANGE    paylinks.events
// PAYLINKS_WAIT_SECONDS       60: how long to wait for the answer, publishing the same event again now and then
//
// Prints the answer as JSON. Exit code 0: accepted; 1: refused, or no answer in time; 2: no invoice or no broker.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import amqp from "amqplib";

const url = process.env.PAYLINKS_AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672/";
const intakeExchange = process.env.PAYLINKS_INTAKE_EXCHANGE ?? "paylinks.intake";
const eventsExchange = process.env.PAYLINKS_EVENTS_EXCHANGE ?? "paylinks.events";
const waitSeconds = Number(process.env.PAYLINKS_WAIT_SECONDS ?? 60);
const repeatSeconds = Math.min(5, waitSeconds / 3);

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const say = (text) => console.error(text);

function sampleInvoice() {
  return {
    crm: "acme-bitrix24",
    invoice_id: `NODE-${Date.now()}`,
    version: 1,
    type: "invoice",
    kind: "prepayment",
    // Minor units, a whole number: 150000.00 AMD.
    amount_minor: 15000000,
    currency: "AMD",
    purpose: "Կանխավճար, պայմանագիր 17",
    customer: { name: "Անի Սարգսյան", email: "ani@example.am", phone: "+37410000000", locale: "hy" },
    manager: { id: "17", name: "Karen" },
    policy: { expires_in: "P7D" },
  };
}

// An event keeps its id and its bytes over all tries, so that a repeat is known as one.
function asEvent(invoice) {
  return {
    specversion: "1.0",
    id: randomUUID(),
    source: `/crm/${invoice.crm}`,
    type: "invoice.created.v1",
    subject: invoice.invoice_id,
    time: new Date().toISOString(),
    datacontenttype: "application/json",
    data: invoice,
  };
}

// Resolves when the broker has the event in a queue. A broker's confirm alone would also come for an event that no
// queue wanted: `mandatory` sends such an event back, and it comes back before its confirm.
function publish(channel, event) {
  return new Promise((resolve, reject) => {
    let returned = false;
    const onReturn = (message) => {
      returned ||= message.properties.messageId === event.id;
    };
    channel.on("return", onReturn);
    const options = {
      mandatory: true,
      persistent: true,
      contentType: "application/cloudevents+json",
      messageId: event.id,
    };
    channel.publish(intakeExchange, "invoice.created", Buffer.from(JSON.stringify(event)), options, (error) => {
      channel.removeListener("return", onReturn);
      if (error) reject(error);
      else if (returned) reject(new Error(`no queue takes what is published to ${intakeExchange}`));
      else resolve();
    });
  });
}

// Hears answers on a queue of our own, bound before the first publish so that no answer is missed. A CRM that runs for
// years uses a durable queue with a name instead, and hears the answers of all its invoices there.
async function listen(channel, event) {
  const { queue } = await channel.assertQueue("", { exclusive: true });
  await channel.bindQueue(queue, eventsExchange, "invoice.accepted");
  await channel.bindQueue(queue, eventsExchange, "intake.rejected");
  let heard;
  const answered = new Promise((resolve) => (heard = resolve));
  const onMessage = (message) => {
    const answer = message && JSON.parse(message.content.toString());
    if (answer && isAbout(answer, event)) heard(answer);
  };
  await channel.consume(queue, onMessage, { noAck: true });
  return { answered };
}

function isAbout(answer, event) {
  if (answer.type === "intake.rejected.v1") return answer.data.event_id === event.id;
  const { crm, type, invoice_id: invoiceId, sent_version: version } = answer.data;
  const { data } = event;
  const isSame = crm === data.crm && type === (data.type ?? "invoice") && invoiceId === data.invoice_id;
  return isSame && (version ?? null) === (data.version ?? null);
}

async function sendUntilAnswered(channel, event, answered) {
  const until = Date.now() + waitSeconds * 1000;
  let answer = null;
  answered.then((arrived) => (answer = arrived));
  while (answer === null && Date.now() < until) {
    try {
      await publish(channel, event);
      say(`published ${event.id}; waiting for the answer`);
    } catch (error) {
      say(`not published: ${error.message}; trying again`);
    }
    await Promise.race([answered, pause(Math.min(repeatSeconds, Math.max(0, (until - Date.now()) / 1000)))]);
  }
  return answer;
}

async function main() {
  const file = process.argv[2];
  const invoice = file ? JSON.parse(await readFile(file, "utf8")) : sampleInvoice();
  const event = asEvent(invoice);
  const connection = await amqp.connect(url, { timeout: 10_000 });
  connection.on("error", (error) => say(`connection: ${error.message}`));
  const channel = await connection.createConfirmChannel();
  channel.on("error", (error) => say(`channel: ${error.message}`));
  // The exchanges belong to Paylinks; here they are looked for, never declared.
  await channel.checkExchange(intakeExchange);
  await channel.checkExchange(eventsExchange);

  const { answered } = await listen(channel, event);
  const answer = await sendUntilAnswered(channel, event, answered);
  await connection.close();
  if (answer === null) {
    say("no answer in time; publish the same event again later, with the same id");
    return 1;
  }
  console.log(JSON.stringify(answer, null, 2));
  // "conflict": this version came before with other content, and a person has been told.
  return answer.type === "invoice.accepted.v1" && answer.data.outcome !== "conflict" ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (error) => {
    say(`publish-invoice: ${error.message}`);
    process.exit(2);
  },
);
