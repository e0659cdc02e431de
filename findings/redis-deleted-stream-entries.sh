#!/usr/bin/env bash
# Redis keeps what a deleted entry of a stream contained, in memory and in RDB files, until all entries of its node are deleted.
#
# Version   redis-server 7.0.15 (Debian bookworm, pinned below).
# Expected  After XDEL of an entry, an RDB file that is saved then does not have its values.
# Behaviour XDEL marks the entry in its listpack node (stream-node-max-entries 100, stream-node-max-bytes 4096), which is freed
#           when all its entries are deleted. Until then the values are in memory, in DUMP, RDB files and AOF rewrites.
# Output    readable: no; in the rdb file: yes; after its neighbours are deleted: no
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
"$bin/redis-server" --port 0 --unixsocket "$work/s" --dir "$work" --save "" --rdbcompression no --logfile redis.log &
pid=$!
cli() { "$bin/redis-cli" -s "$work/s" "$@"; }
until [ "$(cli PING 2>/dev/null)" = PONG ]; do
	kill -0 "$pid"
	sleep 0.1
done
has() { if grep -qa "$1" "$2"; then echo yes; else echo no; fi; }

cli xadd s 1-1 k alice >/dev/null
cli xadd s 2-1 k bob >/dev/null
cli xadd s 3-1 k carol >/dev/null
cli xdel s 2-1 >/dev/null
cli xrange s - + >entries
cli save >/dev/null
found="readable: $(has bob entries); in the rdb file: $(has bob dump.rdb)"
cli xdel s 1-1 3-1 >/dev/null
cli save >/dev/null
found="$found; after its neighbours are deleted: $(has bob dump.rdb)"
echo "$found"
[ "$found" = "readable: no; in the rdb file: yes; after its neighbours are deleted: no" ]
