#!/usr/bin/env bash
# A Redis at maxclients says so over plain TCP, and says nothing over TLS.
#
# Version   Redis 7.0.15 (Debian 12's package, unpacked).
# Expected  A client beyond maxclients reads "-ERR max number of clients reached", over TLS too.
# Behaviour The error is written without TLS only: over TLS the connection is closed before the handshake is done, so that the client sees a
#           lost connection as of a network or certificate that is wrong, and no word of the limit.
# Output    plain: ERR max number of clients reached
#           tls:   no answer
#           tls, after another client has left: PONG
#
# Needs: apt-get, dpkg-deb, openssl. Fails if the behaviour changes.
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
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost >/dev/null 2>&1
port=$((20000 + RANDOM % 20000))
"$bin/redis-server" --bind 127.0.0.1 --port "$port" --tls-port $((port + 1)) --tls-cert-file cert.pem --tls-key-file key.pem --tls-ca-cert-file cert.pem \
	--tls-auth-clients no --maxclients 1 --dir "$work" --save "" --logfile redis.log &
pid=$!
ping() { # prints the first line of the answer
	local answer
	answer=$("$bin/redis-cli" "$@" ping 2>/dev/null) || true
	echo "${answer%%$'\n'*}"
}
plain() { ping -p "$port"; }
tls() { ping -p $((port + 1)) --tls --cacert cert.pem; }
until [ "$(plain)" = PONG ]; do
	kill -0 "$pid"
	sleep 0.1
done

exec 3<>"/dev/tcp/127.0.0.1/$port" # the one client
printf 'PING\r\n' >&3
read -r -u 3 _
{
	echo "plain: $(plain)"
	answer=$(tls)
	echo "tls:   ${answer:-no answer}"
	exec 3>&-
	until [ "$(plain)" = PONG ]; do sleep 0.1; done
	until answer=$(tls) && [ -n "$answer" ]; do sleep 0.1; done
	echo "tls, after another client has left: $answer"
} >out
cat out
diff - out <<'OUT'
plain: ERR max number of clients reached
tls:   no answer
tls, after another client has left: PONG
OUT
