<?php

// Sends one invoice to Paylinks by AMQP and waits until Paylinks has taken it.
//
//     composer install
//     php publish-invoice.php                  a sample invoice
//     php publish-invoice.php invoice.json     yours: the `data` of an invoice.created.v1
//
// PAYLINKS_AMQP_URL           amqp://guest:guest@127.0.0.1:5672/
// PAYLINKS_INTAKE_EXCHANGE    paylinks.intake
// PAYLINKS_EVENTS_EXCHANGE    paylinks.events
// PAYLINKS_WAIT_SECONDS       60: how long to wait for the answer, publishing the same event again now and then
//
// Prints the answer as JSON. Exit code 0: accepted; 1: refused, or no answer in time; 2: no invoice or no broker.

declare(strict_types=1);

require __DIR__ . '/vendor/autoload.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPTimeoutException;
use PhpAmqpLib\Message\AMQPMessage;

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
        'type' => 'invoice',
        'kind' => 'invoice',
        // Minor units, a whole number: 42000.00 RUB. An int, or PHP would write 4200000.0.
        'amount_minor' => 4200000,
        'currency' => 'RUB',
        'purpose' => 'Поставка бумаги А4, договор 55/26',
        'customer' => ['name' => 'Ольга Смирнова', 'email' => 'olga@example.com', 'locale' => 'ru'],
        'policy' => ['expires_in' => 'P7D'],
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

// An event keeps its id and its bytes over all tries, so that a repeat is known as one.
function asEvent(object $invoice): array
{
    return [
        'specversion' => '1.0',
        'id' => bin2hex(random_bytes(16)),
        'source' => '/crm/' . $invoice->crm,
        'type' => 'invoice.created.v1',
        'subject' => $invoice->invoice_id,
        'time' => gmdate('Y-m-d\TH:i:s\Z'),
        'datacontenttype' => 'application/json',
        'data' => $invoice,
    ];
}

function connect(): AMQPStreamConnection
{
    $parts = parse_url(setting('PAYLINKS_AMQP_URL', 'amqp://guest:guest@127.0.0.1:5672/'));
    $vhost = rawurldecode(ltrim($parts['path'] ?? '', '/'));
    return new AMQPStreamConnection(
        $parts['host'],
        $parts['port'] ?? 5672,
        rawurldecode($parts['user'] ?? 'guest'),
        rawurldecode($parts['pass'] ?? 'guest'),
        $vhost === '' ? '/' : $vhost,
        connection_timeout: 10.0,
        read_write_timeout: 30.0,
    );
}

// True when the broker has the event in a queue. A broker's confirm alone would also come for an event that no queue
// wanted: `mandatory` sends such an event back, and it comes back before its confirm.
function publish(AMQPChannel $channel, array $event, string $exchange): bool
{
    $outcome = null;
    $channel->set_return_listener(function () use (&$outcome): void {
        $outcome = false;
    });
    $channel->set_ack_handler(function () use (&$outcome): void {
        $outcome ??= true;
    });
    $channel->set_nack_handler(function () use (&$outcome): void {
        $outcome = false;
    });
    $message = new AMQPMessage(json_encode($event, JSON), [
        'content_type' => 'application/cloudevents+json',
        'delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT,
        'message_id' => $event['id'],
    ]);
    $channel->basic_publish($message, $exchange, 'invoice.created', mandatory: true);
    $channel->wait_for_pending_acks_returns(10.0);
    return $outcome === true;
}

// Hears answers on a queue of our own, bound before the first publish so that no answer is missed. A CRM that runs for
// years uses a durable queue with a name instead, and hears the answers of all its invoices there.
function listen(AMQPChannel $channel, array $event, string $exchange, ?array &$answer): void
{
    [$queue] = $channel->queue_declare('', exclusive: true);
    $channel->queue_bind($queue, $exchange, 'invoice.accepted');
    $channel->queue_bind($queue, $exchange, 'intake.rejected');
    $channel->basic_consume($queue, no_ack: true, callback: function (AMQPMessage $message) use ($event, &$answer) {
        $heard = json_decode($message->getBody(), true, flags: JSON_THROW_ON_ERROR);
        if (isAbout($heard, $event)) {
            $answer = $heard;
        }
    });
}

function isAbout(array $answer, array $event): bool
{
    if ($answer['type'] === 'intake.rejected.v1') {
        return ($answer['data']['event_id'] ?? null) === $event['id'];
    }
    $data = $event['data'];
    return $answer['data']['crm'] === $data->crm
        && $answer['data']['type'] === ($data->type ?? 'invoice')
        && $answer['data']['invoice_id'] === $data->invoice_id
        && ($answer['data']['sent_version'] ?? null) === ($data->version ?? null);
}

function waitForAnswer(AMQPChannel $channel, ?array &$answer, float $until): void
{
    while ($answer === null && microtime(true) < $until) {
        try {
            $channel->wait(null, false, max(0.05, $until - microtime(true)));
        } catch (AMQPTimeoutException) {
            return;
        }
    }
}

function main(array $arguments): int
{
    $invoice = isset($arguments[1]) ? readInvoice($arguments[1]) : sampleInvoice();
    $event = asEvent($invoice);
    $intake = setting('PAYLINKS_INTAKE_EXCHANGE', 'paylinks.intake');
    $events = setting('PAYLINKS_EVENTS_EXCHANGE', 'paylinks.events');
    $waitSeconds = (float) setting('PAYLINKS_WAIT_SECONDS', '60');
    $until = microtime(true) + $waitSeconds;

    $connection = connect();
    $channel = $connection->channel();
    $channel->confirm_select();
    // The exchanges belong to Paylinks; here they are looked for, never declared.
    $channel->exchange_declare($intake, 'topic', passive: true);
    $channel->exchange_declare($events, 'topic', passive: true);

    $answer = null;
    listen($channel, $event, $events, $answer);
    while ($answer === null && microtime(true) < $until) {
        say(publish($channel, $event, $intake)
            ? "published {$event['id']}; waiting for the answer"
            : "not published: no queue takes what is published to $intake; trying again");
        waitForAnswer($channel, $answer, min($until, microtime(true) + min(5.0, $waitSeconds / 3)));
    }
    $channel->close();
    $connection->close();

    if ($answer === null) {
        say('no answer in time; publish the same event again later, with the same id');
        return 1;
    }
    echo json_encode($answer, JSON | JSON_PRETTY_PRINT), PHP_EOL;
    // "conflict": this version came before with other content, and a person has been told.
    return $answer['type'] === 'invoice.accepted.v1' && $answer['data']['outcome'] !== 'conflict' ? 0 : 1;
}

try {
    exit(main($argv));
} catch (Throwable $error) {
    say('publish-invoice: ' . $error->getMessage());
    exit(2);
}
