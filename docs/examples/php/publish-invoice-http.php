<?php

// Sends one invoice to Paylinks by HTTP. Needs nothing but PHP 8.1 with curl.
//
//     PAYLINKS_API_KEY=... php publish-invoice-http.php [invoice.json]
//
// PAYLINKS_URL             http://127.0.0.1:8080
// PAYLINKS_API_KEY         from `paylinks keys create`, bound to your CRM
// PAYLINKS_WAIT_SECONDS    60: how long to try while Paylinks cannot be reached
//
// Prints the answer as JSON. Exit code 0: accepted; 1: refused, or not reached in time; 2: no invoice.

declare(strict_types=1);

const JSON = JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR;

function setting(string $name, string $default): string
{
    $value = getenv($name);
    return $value === false ? $default : $value;
}

function say(string $text): void
{
    fwrite(STDERR, $text . PHP_EOL);
}

function sampleInvoice(): object
{
    return (object) [
        'crm' => 'nairi-kommo',
        'invoice_id' => 'PHP-' . (int) (microtime(true) * 1000),
        'version' => 1,
        // Minor units, a whole number: 18000.00 AMD. An int, or PHP would write 1800000.0.
        'amount_minor' => 1800000,
        'currency' => 'AMD',
        'purpose' => 'УЗИ и консультация кардиолога',
        'customer' => ['name' => 'Елена Власова', 'email' => 'elena.vlasova@example.am', 'locale' => 'ru'],
    ];
}

// As objects, not arrays: PHP would write an empty {} back as [].
function readInvoice(string $file): object
{
    if (!is_readable($file)) {
        throw new RuntimeException("cannot read $file");
    }
    return json_decode(file_get_contents($file), flags: JSON_THROW_ON_ERROR);
}

// Another body or another key would be another wish; what is repeated must be the same.
function makeRequest(object $invoice): array
{
    return [
        CURLOPT_URL => rtrim(setting('PAYLINKS_URL', 'http://127.0.0.1:8080'), '/') . '/v1/invoices',
        CURLOPT_POSTFIELDS => json_encode($invoice, JSON),
        CURLOPT_HTTPHEADER => [
            'Content-Type: application/json',
            'Authorization: Bearer ' . setting('PAYLINKS_API_KEY', ''),
            // Tells a repeat from a new wish where the CRM counts no versions. With a version it changes nothing.
            'Idempotency-Key: ' . bin2hex(random_bytes(16)),
        ],
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_CONNECTTIMEOUT => 5,
        CURLOPT_TIMEOUT => 10,
    ];
}

/** @return array{int, string, int} status (0: not reached), body, seconds that the server asks to wait */
function send(array $request): array
{
    $retryAfter = 0;
    $curl = curl_init();
    curl_setopt_array($curl, $request);
    curl_setopt($curl, CURLOPT_HEADERFUNCTION, function ($curl, string $line) use (&$retryAfter): int {
        if (preg_match('/^retry-after:\s*(\d+)/i', $line, $found)) {
            $retryAfter = (int) $found[1];
        }
        return strlen($line);
    });
    $body = curl_exec($curl);
    return [(int) curl_getinfo($curl, CURLINFO_RESPONSE_CODE), (string) $body, $retryAfter];
}

function sendUntilAnswered(array $request, float $until): ?array
{
    for ($seconds = 0.5; ; $seconds = min($seconds * 2, 10)) {
        [$status, $body, $retryAfter] = send($request);
        if ($status !== 0 && $status !== 429 && $status < 500) {
            return [$status, $body];
        }
        say($status === 0 ? 'not reached; trying again' : "not taken: HTTP $status; trying again");
        $pause = max($seconds, $retryAfter);
        if (microtime(true) + $pause > $until) {
            return null;
        }
        usleep((int) ($pause * 1_000_000));
    }
}

function main(array $arguments): int
{
    $invoice = isset($arguments[1]) ? readInvoice($arguments[1]) : sampleInvoice();
    $until = microtime(true) + (float) setting('PAYLINKS_WAIT_SECONDS', '60');
    $answer = sendUntilAnswered(makeRequest($invoice), $until);
    if ($answer === null) {
        say('not reached in time; send the same body again later');
        return 1;
    }
    [$status, $body] = $answer;
    echo json_encode(json_decode($body, flags: JSON_THROW_ON_ERROR), JSON | JSON_PRETTY_PRINT), PHP_EOL;
    return $status === 202 ? 0 : 1;
}

try {
    exit(main($argv));
} catch (Throwable $error) {
    say('publish-invoice-http: ' . $error->getMessage());
    exit(2);
}
