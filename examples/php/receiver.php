<?php
// Takes webhooks of Gancho: verifies them, stores them, and answers. README.md, one folder up, says what it keeps to.
//
//   WEBHOOK_KEY='whsec_... whsec_...' STORE=received.db php -d display_errors=0 -S 127.0.0.1:8080 receiver.php
//
// display_errors must be off, as in php.ini-production: PHP's own warning about a large request is otherwise sent before this
// program runs, as an answer 200, which means delivered. STORE names a file of SQLite (php-sqlite3).

/** Does what the event is for. What is done through $db is done once: it is committed with the webhook-id. */
function apply(PDO $db, array $event): void
{
    error_log($event['type'] . ' ' . $event['id']); // what takes long belongs in a queue of your own
}

/** Names what the event is about: of one row, an older event is not applied after a newer one. Null: it has no order. */
function row_of(array $event): ?string
{
    if (empty($event['sequence']) || !isset($event['data']['id'])) {
        return null;
    }
    return ($event['tenant'] ?? '') . '/' . explode('.', $event['type'])[0] . '/' . $event['data']['id']; // cobranca of cobranca.liquidada
}

/** Reports whether one signature fits one of the keys. */
function verify(array $keys, string $id, string $stamp, string $signatures, string $body): bool
{
    if (!ctype_digit($stamp) || abs(time() - (int) $stamp) > 300) {
        return false;
    }
    $signed = "$id.$stamp.$body";
    foreach ($keys as $key) {
        [$kind, $encoded] = explode('_', $key, 2) + ['', ''];
        $raw = base64_decode($encoded, true);
        foreach (explode(' ', $signatures) as $part) {
            [$version, $text] = explode(',', $part, 2) + ['', ''];
            $signature = base64_decode($text, true);
            if ($raw === false || $raw === '' || $signature === false) {
                continue;
            }
            if ($version === 'v1' && $kind === 'whsec' && hash_equals(hash_hmac('sha256', $signed, $raw, true), $signature)) {
                return true;
            }
            if ($version === 'v1a' && $kind === 'whpk' && strlen($raw) === SODIUM_CRYPTO_SIGN_PUBLICKEYBYTES
                && strlen($signature) === SODIUM_CRYPTO_SIGN_BYTES && sodium_crypto_sign_verify_detached($signature, $signed, $raw)) {
                return true;
            }
        }
    }
    return false;
}

/** Reads a body: an event, or a list of them; a form, too. Not from $_POST, which is empty above post_max_size. */
function decode(string $type, string $body): array
{
    if (str_starts_with($type, 'application/x-www-form-urlencoded')) {
        if (substr_count($body, '&') >= (int) ini_get('max_input_vars')) {
            answer(500, "PHP would drop the last fields: raise max_input_vars\n"); // it is sent again until this program can read it
        }
        parse_str($body, $events);
    } else {
        $events = json_decode($body, true, 512, JSON_BIGINT_AS_STRING);
    }
    $events = is_array($events) && array_is_list($events) ? $events : [$events];
    foreach ($events as $event) {
        if (!is_array($event) || empty($event['type']) || empty($event['id']) || empty($event['timestamp'])) {
            answer(400, "no type, id and timestamp: is the endpoint's format standard or form?\n");
        }
    }
    return $events;
}

function connect(): PDO
{
    $db = new PDO('sqlite:' . (getenv('STORE') ?: 'received.db'), null, null, [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION, PDO::ATTR_TIMEOUT => 30]);
    $db->exec('pragma synchronous = full');
    $db->exec('create table if not exists received (webhook_id text primary key, type text, at text, replay integer, body text)');
    $db->exec('create table if not exists row_sequences (row text primary key, sequence text)');
    return $db;
}

/** Applies and stores the events of a request in one transaction, and returns a line about each. */
function take(array $events, bool $replay, string $body): string
{
    $db = connect();
    $db->exec('begin immediate');
    $said = '';
    foreach ($events as $event) {
        $said .= take_one($db, $event, $replay, $body) . "\n";
    }
    $db->exec('commit');
    return $said;
}

/** Returns what the event is: repeated, older, applied, taken (a ping, a notice) or how a closing compares. */
function take_one(PDO $db, array $event, bool $replay, string $body): string
{
    $insert = $db->prepare('insert into received values (?, ?, ?, ?, ?) on conflict do nothing');
    $insert->execute([$event['id'], $event['type'], in_utc($event['timestamp']), (int) $replay, $body]);
    if ($insert->rowCount() === 0 && !$replay) { // who asks for an event again wants it applied again
        return 'repeated';
    }
    if ($event['type'] === 'gancho.closing') {
        return compare($db, $event['data']);
    }
    $row = row_of($event);
    if ($row === null && ($event['type'] === 'ping' || str_starts_with($event['type'], 'gancho.'))) {
        return 'taken';
    }
    if ($row === null) { // it has no order
        apply($db, $event);
        return 'applied';
    }
    $newer = $db->prepare('insert into row_sequences values (?, ?)'
        . ' on conflict (row) do update set sequence = excluded.sequence where excluded.sequence >= row_sequences.sequence');
    $newer->execute([$row, $event['sequence']]);
    if ($newer->rowCount() === 0) {
        return 'older';
    }
    apply($db, $event);
    return 'applied';
}

/** Says whether what was received of a day is what was sent. */
function compare(PDO $db, array $closing): string
{
    $select = $db->prepare("select type, webhook_id, replay from received"
        . " where at >= ? and at < ? and type not like 'gancho.%' and type <> 'ping' order by webhook_id");
    $select->execute([in_utc($closing['from']), in_utc($closing['to'])]);
    $days = [];
    foreach ($select as [$type, $id, $replay]) {
        $days[$type]['ids'][] = $id;
        $days[$type]['demanded'] = ($days[$type]['demanded'] ?? 0) + $replay;
    }
    $wrong = [];
    $sent = [];
    foreach ($closing['events'] ?? [] as $of) { // a form leaves out an empty list
        $sent[$of['event']] = $of;
    }
    foreach ($sent + array_fill_keys(array_keys($days), ['count' => 0, 'digest' => '']) as $type => $of) {
        $ids = $days[$type]['ids'] ?? [];
        if (hash('sha256', implode("\n", $ids)) !== $of['digest']) {
            $wrong[] = "$type: {$of['count']} sent, " . count($ids) . ' received (' . ($days[$type]['demanded'] ?? 0) . ' on demand)';
        }
    }
    sort($wrong);
    if (!in_array($closing['complete'], [true, 'true'], true)) {
        $wrong[] = "the sender's log is not whole";
    }
    return "closing {$closing['day']}: " . (implode('; ', $wrong) ?: 'agrees');
}

/** The time as a text that sorts. */
function in_utc(string $text): string
{
    return (new DateTimeImmutable($text))->setTimezone(new DateTimeZone('UTC'))->format('Y-m-d\TH:i:s.u\Z');
}

function answer(int $status, string $text): never
{
    http_response_code($status);
    header('content-type: text/plain; charset=utf-8');
    echo $text;
    exit;
}

if (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) !== '/hooks') {
    answer(404, "not here\n");
}
if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    answer(405, "POST only\n");
}
$body = file_get_contents('php://input');
$keys = preg_split('/\s+/', getenv('WEBHOOK_KEY'), -1, PREG_SPLIT_NO_EMPTY);
if (!verify($keys, $_SERVER['HTTP_WEBHOOK_ID'] ?? '', $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '', $body)) {
    answer(401, "no valid signature\n");
}
$events = decode($_SERVER['CONTENT_TYPE'] ?? '', $body);
try {
    $outcome = take($events, ($_SERVER['HTTP_WEBHOOK_REPLAY'] ?? '') === 'true', $body);
} catch (PDOException $e) {
    error_log('write the store: ' . $e->getMessage());
    answer(500, "not stored\n");
}
if (str_contains($outcome, 'closing ')) {
    error_log(trim($outcome)); // alarm somebody when it does not agree
}
answer(200, $outcome);
