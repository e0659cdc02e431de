#!/usr/bin/env bash
# Redis cuts a torn append-only file inside an open MULTI, appends behind it, and drops at its next start what it acknowledged since.
#
# Version   redis-server 7.0.15 (Debian 12, pinned below); seen on Redis 8.0.6 as well, and not on Valkey 9.1.2.
# Expected  With aof-load-truncated yes, a server that finds a torn tail loads the file up to the last whole transaction, and what
#           it appends afterwards, with appendfsync always, is there after an orderly shutdown and start.
# Behaviour When the tail is torn in the middle of a command within MULTI ... EXEC, the file is cut behind the last whole command,
#           with the MULTI open. New single commands are appended behind it. The next start finds no EXEC, and cuts everything
#           from that MULTI on: writes that were acknowledged and synced are gone. A transaction in between closes it, and saves them.
# Output    server: 7.0.15
#           keys after the torn start: 0; written since, and acknowledged under appendfsync always: 20; after an orderly restart: 0
#
# Needs: apt-get (Debian or Ubuntu, for the package only; nothing is installed). Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

# The package, from the machine's own mirror, unpacked in the temporary folder. Its libraries are the system's.
version=$(apt-cache madison redis-server | awk '{print $3}' | grep -m1 '^5:7\.0\.15')
apt-get -qq download "redis-server=$version" "redis-tools=$version" >/dev/null
for package in *.deb; do dpkg-deb -x "$package" root; done
server=$work/root/usr/bin/redis-check-rdb # redis-server is a link to it, by its absolute path
cp "$server" redis-server

port=$((20000 + RANDOM % 20000))
mkdir data
# ask sends one command line over descriptor 3 and prints the reply's first line.
ask() {
	printf '%s\r\n' "$1" >&3
	IFS= read -r reply <&3
	printf '%s' "${reply%$'\r'}"
}
start() {
	./redis-server --port "$port" --bind 127.0.0.1 --dir "$work/data" --save '' --appendonly yes --appendfsync always \
		--aof-load-truncated yes --daemonize no >>log 2>&1 &
	pid=$!
	for _ in $(seq 100); do
		if { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null && [ "$(ask PING)" = +PONG ]; then return; fi
		kill -0 "$pid" || { cat log >&2; exit 1; }
		sleep 0.1
	done
}
end() { # signal
	kill "-$1" "$pid"
	wait "$pid" 2>/dev/null || true
}

start
echo "server: $(./redis-server --version | sed -n 's/.* v=\([0-9.]*\).*/\1/p')"
for command in MULTI 'SET t1 a' 'SET t2 b' 'SET t3 c' EXEC; do ask "$command" >/dev/null; done
end KILL
file=$(ls data/appendonlydir/*.incr.aof)
truncate -s -20 "$file" # EXEC, and the last bytes of SET t3 c
start
torn=$(ask DBSIZE)
for i in $(seq 20); do [ "$(ask "SET k$i v")" = +OK ]; done
written=$(ask DBSIZE)
end TERM
start
left=$(ask DBSIZE)
echo "keys after the torn start: ${torn#:}; written since, and acknowledged under appendfsync always: ${written#:}; after an orderly restart: ${left#:}"
[ "$torn" = :0 ] && [ "$written" = :20 ] && [ "$left" = :0 ]
