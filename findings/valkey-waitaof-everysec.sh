#!/usr/bin/env bash
# WAITAOF of Valkey answers before the fsync under appendfsync everysec.
#
# Version   valkey-server 8.0.1 (Debian bookworm-backports, pinned below); seen on 9.1.2 as well.
# Expected  WAITAOF 1 0 returns 1 once the preceding write of the connection was fsynced to the AOF: with a disk whose
#           fdatasync takes 3 s, that is up to three seconds after the write.
# Behaviour With appendfsync everysec it returns 1 within milliseconds, while no fdatasync that covers the write has returned.
#           A power cut in that time loses a write that was acknowledged as durable. The server also reports
#           redis_version:7.2.4, so a client that goes by that version takes it for a Redis 7.2.
# Output    server: 8.0.1, redis_version 7.2.4
#           WAITAOF said 1 after 1 ms; fdatasync calls that had returned since the write: 0
#
# Needs: apt-get (Debian or Ubuntu, for the package only; nothing is installed), gcc. Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

# The package and its libraries, from the machine's own mirror, unpacked in the temporary folder.
# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | grep -v security | head -n 1)
mkdir -p apt/lists/partial apt/archives/partial root
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" >apt/sources.list
cat >apt/apt.conf <<CONF
Dir::Etc::SourceList "$work/apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$work/apt/lists";
Dir::Cache "$work/apt";
APT::Sandbox::User "root";
CONF
export APT_CONFIG=$work/apt/apt.conf
apt-get -qq update >/dev/null
version=$(apt-cache madison valkey-server | awk '{print $3}' | grep -m1 '^8\.0\.1')
(cd apt && apt-get -qq download "valkey-server=$version" "valkey-tools=$version" >/dev/null)
for package in apt/*.deb; do dpkg-deb -x "$package" root; done
unset APT_CONFIG

# A disk whose fdatasync takes 3 s, and that counts those that have returned.
cat >slow.c <<'C'
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd) {
	sleep(3);
	int result = syscall(SYS_fdatasync, fd);
	int log = open(getenv("SYNCED"), O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (log >= 0) { if (write(log, "1\n", 2) < 0) result = -1; close(log); }
	return result;
}
C
gcc -shared -fPIC -o slow.so slow.c

port=$((20000 + RANDOM % 20000))
mkdir data
SYNCED=$work/synced LD_PRELOAD=$work/slow.so "$work/root/usr/bin/valkey-server" --port "$port" --bind 127.0.0.1 --dir "$work/data" \
	--save '' --appendonly yes --appendfsync everysec --daemonize no >log 2>&1 &
pid=$!

# ask sends one command line over descriptor 3 and prints the reply's first line.
ask() {
	printf '%s\r\n' "$1" >&3
	IFS= read -r reply <&3
	printf '%s' "${reply%$'\r'}"
}
for _ in $(seq 100); do
	if { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null && [ "$(ask PING)" = +PONG ]; then break; fi
	kill -0 "$pid" || { cat log >&2; exit 1; }
	sleep 0.1
done
printf 'INFO server\r\n' >&3
valkey= redis=
while IFS= read -r line <&3; do
	line=${line%$'\r'}
	case $line in
	valkey_version:*) valkey=${line#*:} ;;
	redis_version:*) redis=${line#*:} ;;
	listener0:*) break ;;
	esac
done
read -rt 1 _ <&3 || true
echo "server: $valkey, redis_version $redis"

sleep 5 # what the start wrote is synced
before=$(cat synced 2>/dev/null | wc -l)
[ "$(ask 'SET k v')" = +OK ]
start=$(date +%s%N)
printf 'WAITAOF 1 0 10000\r\n' >&3
IFS= read -r _ <&3
IFS= read -r local <&3
IFS= read -r _ <&3
took=$((($(date +%s%N) - start) / 1000000))
returned=$(($(cat synced 2>/dev/null | wc -l) - before))
echo "WAITAOF said ${local//[:$'\r']/} after $took ms; fdatasync calls that had returned since the write: $returned"
[ "$valkey" = 8.0.1 ] && [ "${local%$'\r'}" = ":1" ] && [ "$returned" = 0 ] && [ "$took" -lt 2000 ]
