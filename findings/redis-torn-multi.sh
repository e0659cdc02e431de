#!/usr/bin/env bash
# Redis cuts a torn AOF tail inside an open MULTI and appends behind it: what is written next is lost at the restart after.
#
# Version   redis-server 7.0.15 (Debian bookworm, pinned below); seen on 8.0.6 as well, and not on Valkey 9.1.2.
# Expected  A power cut tears the last MULTI ... EXEC of the AOF. With aof-load-truncated yes (the default) the next start
#           discards that transaction; what is written, fsynced and acknowledged from then on survives any restart.
# Behaviour When the tear is within a command, the file is truncated behind the last whole command, which leaves the MULTI open
#           (a tear between two commands is truncated before the MULTI). The server appends behind it. At the following start,
#           even an orderly one, everything since the MULTI is one transaction without EXEC and is discarded: a write that
#           appendfsync always had made durable. If a MULTI ... EXEC is written meanwhile, that EXEC closes both, and half=1 comes true alone.
# Output    redis-server 7.0.15, appendfsync always
#           after the power cut: before=1 half=(nil) later=(nil); log: Truncating the AOF
#           written and fsynced: later=1
#           after an orderly restart: before=1 half=(nil) later=(nil); log: Revert incomplete MULTI/EXEC
#
# Needs: apt-get (Debian or Ubuntu, for the packages only; nothing is installed). Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

# The packages, from the machine's own mirror, unpacked in the temporary folder.
# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | grep -v security | head -n 1)
mkdir -p apt/lists/partial apt/archives/partial root
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" >apt/sources.list
cat >apt/apt.conf <<CONF
Dir::Etc::SourceList "$work/apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$work/apt/lists";
Dir::Cache "$work/apt";
APT::Sandbox::User "root";
CONF
export APT_CONFIG=$work/apt/apt.conf
apt-get -qq update >/dev/null
version=$(apt-cache madison redis-tools | awk '{print $3}' | grep -m1 '^5:7\.0\.15')
(cd apt && apt-get -qq download "redis-server=$version" "redis-tools=$version" libjemalloc2 liblua5.1-0 liblzf1 lua-cjson lua-bitop libatomic1 >/dev/null)
for package in apt/*.deb; do dpkg-deb -x "$package" root; done
unset APT_CONFIG
LD_LIBRARY_PATH=$(dirname "$(find "$PWD/root" -name 'libjemalloc.so.2')")
export LD_LIBRARY_PATH

port=$((20000 + RANDOM % 20000))
cli() { "$work/root/usr/bin/redis-cli" -p "$port" "$@"; }
start() {
	: >log
	"$work/root/usr/bin/redis-server" --port "$port" --bind 127.0.0.1 --dir "$work/data" --save '' \
		--appendonly yes --appendfsync always --logfile "$work/log" &
	pid=$!
	until [ "$(cli PING 2>/dev/null)" = PONG ]; do
		kill -0 "$pid" || { cat log >&2; exit 1; }
		sleep 0.1
	done
}
shows() { echo "before=$(value before) half=$(value half) later=$(value later)"; }
value() {
	local v
	v=$(cli GET "$1")
	echo "${v:-(nil)}"
}

mkdir data
start
echo "redis-server $(cli INFO server | sed -n 's/^redis_version:\([0-9.]*\).*/\1/p'), appendfsync always"
cli SET before 1 >/dev/null
printf 'MULTI\nSET half 1\nSET other 1\nEXEC\n' | cli >/dev/null
kill -9 "$pid"
wait "$pid" 2>/dev/null || true
# What a power cut may leave: the file ends within "SET other 1".
truncate -s -20 data/appendonlydir/*.incr.aof

start
cut=$(shows)
echo "after the power cut: $cut; log: $(grep -o 'Truncating the AOF' log | head -n 1)"
cli SET later 1 >/dev/null
written=$(value later)
echo "written and fsynced: later=$written"
cli SHUTDOWN 2>/dev/null || true
wait "$pid" || true

start
restarted=$(shows)
echo "after an orderly restart: $restarted; log: $(grep -o 'Revert incomplete MULTI/EXEC' log | head -n 1)"
[ "$cut" = 'before=1 half=(nil) later=(nil)' ] && [ "$written" = 1 ] && [ "$restarted" = 'before=1 half=(nil) later=(nil)' ]
