#!/usr/bin/env bash
# After a power failure during an AOF rewrite, Redis refuses to start once, and then starts with a hole in its history.
#
# Version   redis-server 7.0.15 (Debian bookworm, pinned below); Redis 8.0.6 and Valkey 9 do the same.
# Expected  With aof-load-truncated, the end of the history is lost and nothing else; or Redis refuses to start until somebody repairs it.
# Behaviour A rewrite begins another incremental file while the last second of the one before may not be on the disk. If that end is
#           lost, Redis truncates the file, says "the truncated file is not the last file", and exits. Its next start, such as a
#           service manager's, finds nothing to object to: it loads both files, and what is between them is missing without a word.
#           (Twice, if the cut is inside MULTI.)
# Output    first start: refused; second start: runs; before the cut: old; in the cut: missing; behind it: new
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

bin=$work/root/usr/bin
LD_LIBRARY_PATH=$(dirname "$(find "$PWD/root" -name 'libjemalloc.so.2')")
export LD_LIBRARY_PATH
start() {
	"$bin/redis-server" --port 0 --unixsocket "$work/s" --dir "$work" --save "" --appendonly yes --aof-load-truncated yes \
		--auto-aof-rewrite-percentage 0 --rdb-key-save-delay 1000000 --logfile "$work/redis.log" &
	pid=$!
	until [ "$(cli PING 2>/dev/null)" = PONG ]; do
		kill -0 "$pid" 2>/dev/null || return 1
		sleep 0.1
	done
}
cli() { "$bin/redis-cli" -s "$work/s" "$@"; }
files() { find "$work/appendonlydir" -name '*.incr.aof' | sort; }

start
cli set before old >/dev/null
cli set cut x >/dev/null
cli bgrewriteaof >/dev/null # a second for each key
until [ "$(files | wc -l)" = 2 ]; do sleep 0.1; done
cli set behind new >/dev/null
until grep -qa behind "$(files | tail -n 1)"; do sleep 0.1; done
kill -9 "$pid"
wait "$pid" 2>/dev/null || true
first=$(files | head -n 1)
truncate -s -5 "$first" # what a power failure may take of a file whose end was not synced

if start; then found="first start: runs"; else found="first start: refused"; fi
grep -q 'the truncated file is not the last file' "$work/redis.log"
if start; then found="$found; second start: runs"; else found="$found; second start: refused"; fi
cut=$(cli get cut)
found="$found; before the cut: $(cli get before); in the cut: ${cut:-missing}; behind it: $(cli get behind)"
echo "$found"
[ "$found" = "first start: refused; second start: runs; before the cut: old; in the cut: missing; behind it: new" ]
