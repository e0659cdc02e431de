#!/usr/bin/env bash
# A minor update of PostgreSQL stops slots whose output plugin is not in a list that did not exist before.
#
# Version   PostgreSQL 15.18 and 15.20 with wal2json (Debian bookworm and its security updates, pinned below); 18.6 has the list as
#           well.
# Expected  After a minor update every replication slot goes on.
# Behaviour output_plugin_libraries (a setting that only a superuser changes) names the libraries that may be output plugins. Its
#           default is "pgoutput, test_decoding": a slot of wal2json that worked under 15.18 is refused under
#           15.20, and holds its WAL back meanwhile; a superuser is refused, too. The SQLSTATE is 42501, that of a
#           missing privilege or REPLICATION attribute: only message and HINT tell them apart. A reload with the name added helps.
# Output    15.18 wal2json: ok, output_plugin_libraries: (none)
#           15.20 wal2json: 42501 library "wal2json" may not be used as an output plugin, output_plugin_libraries: pgoutput, test_decoding
#           15.20 after a reload with wal2json added: ok
#           15.20 pgoutput without it in the list: 42501 library "pgoutput" may not be used as an output plugin
#
# Needs: apt-get (Debian 12, for packages only; nothing is installed); as root also a user `postgres`. Fails if the behaviour
# changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 "$work"

# Both versions and all they depend on, from the machine's own mirrors, unpacked in the temporary folder.
mkdir -p apt/lists/partial apt/archives/partial
: >apt/status
# shellcheck disable=SC2016 # apt's own variables
apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Component: main' | sort -u | while read -r mirror suite; do
	case $suite in bookworm | bookworm-security) echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" ;; esac
done >apt/sources.list
cat >apt/apt.conf <<CONF
Dir::Etc::SourceList "$work/apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$work/apt/lists";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt";
APT::Sandbox::User "root";
Debug::NoLocking "true";
CONF
export APT_CONFIG=$work/apt/apt.conf
apt-get -qq update >/dev/null
for version in 15.18 15.20; do
	package=$(apt-cache madison postgresql-15 | awk '{print $3}' | grep -m1 "^${version/./\\.}-")
	rm -f apt/archives/*.deb
	apt-get -qq -y --no-install-recommends --download-only install "postgresql-15=$package" "postgresql-client-15=$package" postgresql-15-wal2json >/dev/null
	rm -f apt/archives/libc6_*.deb
	for deb in apt/archives/*.deb; do dpkg-deb -x "$deb" "$version"; done
done
unset APT_CONFIG
chmod -R a+rX "$work"

data=$work/data port=$((20000 + RANDOM % 20000))
install -d -m 700 "$data"
[ "$(id -u)" != 0 ] || chown postgres: "$data"
run() { # program of the version at hand, its arguments
	local libraries
	libraries=$(find "$work/$version" -name '*.so*' \( -path '*/usr/lib/*-linux-gnu/*' -o -path '*/lib/*-linux-gnu/*' \) -printf '%h\n' | sort -u | grep -E -- '-linux-gnu$' | paste -sd:)
	set -- env "LD_LIBRARY_PATH=$libraries" "$work/$version/usr/lib/postgresql/15/bin/$1" "${@:2}"
	if [ "$(id -u)" = 0 ]; then set -- setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; fi
	"$@"
}
start() {
	version=$1
	run pg_ctl -D "$data" -w -l "$data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c wal_level=logical -c jit=off" start >/dev/null
}
sql() { run psql -X -At -h 127.0.0.1 -p "$port" -U postgres -d postgres -v VERBOSITY=verbose "$@" 2>&1; }
outcome() { # a statement
	local answer
	if answer=$(sql -c "$1"); then echo ok; else echo "$answer" | sed -n 's/^ERROR: *\([0-9A-Z]*\): \(.*\)/\1 \2/p'; fi
}
list() { sql -c "select coalesce((select setting from pg_settings where name = 'output_plugin_libraries'), '(none)')"; }
read_wal2json="select count(*) from pg_logical_slot_peek_changes('s', null, null)"

version=15.18
run initdb -D "$data" -U postgres -A trust --no-sync >/dev/null
start 15.18
sql -c "select pg_create_logical_replication_slot('s', 'wal2json')" -c "create table t (id int primary key)" -c "insert into t values (1)" >/dev/null
{
	echo "15.18 wal2json: $(outcome "$read_wal2json"), output_plugin_libraries: $(list)"
	run pg_ctl -D "$data" -m fast stop >/dev/null
	start 15.20
	echo "15.20 wal2json: $(outcome "$read_wal2json"), output_plugin_libraries: $(list)"
	sql -c "alter system set output_plugin_libraries = pgoutput, wal2json" -c "select pg_reload_conf()" >/dev/null
	until [ "$(list)" = 'pgoutput, wal2json' ]; do sleep 0.1; done
	echo "15.20 after a reload with wal2json added: $(outcome "$read_wal2json")"
	sql -c "alter system set output_plugin_libraries = wal2json" -c "select pg_reload_conf()" >/dev/null
	until [ "$(list)" = wal2json ]; do sleep 0.1; done
	echo "15.20 pgoutput without it in the list: $(outcome "select pg_create_logical_replication_slot('p', 'pgoutput')")"
	run pg_ctl -D "$data" -m immediate stop >/dev/null
} >out || { cat out "$data/log" >&2; exit 1; }
cat out
diff - out <<'OUT'
15.18 wal2json: ok, output_plugin_libraries: (none)
15.20 wal2json: 42501 library "wal2json" may not be used as an output plugin, output_plugin_libraries: pgoutput, test_decoding
15.20 after a reload with wal2json added: ok
15.20 pgoutput without it in the list: 42501 library "pgoutput" may not be used as an output plugin
OUT
