#!/bin/sh
# Builds the images of docker-compose.yml where none can be pulled: Debian by debootstrap, PostgreSQL and Redis from its
# packages, Go and the trusted certificate authorities from this machine. As root, with debootstrap and docker:
#
#   MIRROR=<a Debian mirror's URL> deploy/images.sh
#   export BUILD_IMAGE=handmade-go POSTGRES_IMAGE=handmade-postgres REDIS_IMAGE=handmade-redis
#   docker-compose up --build
set -eu
suite=${SUITE:-bookworm}
mirror=${MIRROR:?set it to the URL of a Debian mirror, such as the one in /etc/apt/sources.list}
go=$(go env GOROOT)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

debootstrap --variant=minbase --include=ca-certificates "$suite" "$work/root" "$mirror"
tar -C "$work/root" -c . | docker import - handmade-debian

mkdir "$work/postgres" "$work/redis" "$work/go"
# What the compose file uses of the official image's start: a new cluster, and the scripts of /docker-entrypoint-initdb.d
# on a server that only its socket reaches.
cat >"$work/postgres/entrypoint" <<'END'
#!/bin/bash
set -euo pipefail
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
export PGDATA=/var/lib/postgresql/data
if [ "$(id -u)" = 0 ]; then
	install -d -o postgres -g postgres "$PGDATA" /run/postgresql
	exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	initdb -U postgres -E UTF8 --locale=C.UTF-8 -A scram-sha-256 --auth-local=trust --pwfile=<(echo "$POSTGRES_PASSWORD")
	echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
	pg_ctl -w start -o "-c listen_addresses=''"
	createdb -U postgres "$POSTGRES_DB"
	for script in /docker-entrypoint-initdb.d/*.sql; do psql -q -v ON_ERROR_STOP=1 -U postgres -d "$POSTGRES_DB" -f "$script"; done
	pg_ctl -w stop
fi
exec "$@" -c listen_addresses='*'
END
chmod +x "$work/postgres/entrypoint"
docker build -t handmade-postgres -f - "$work/postgres" <<'END'
FROM handmade-debian
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/* \
 && ln -sf /usr/lib/postgresql/*/bin/* /usr/local/bin/
COPY entrypoint /usr/local/bin/entrypoint
ENTRYPOINT ["entrypoint"]
STOPSIGNAL SIGINT
END
docker build -t handmade-redis -f - "$work/redis" <<'END'
FROM handmade-debian
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/* \
 && install -d -o redis -g redis /data
USER redis
WORKDIR /data
CMD ["redis-server"]
END
cp -a "$go" "$work/go/go"
cp /etc/ssl/certs/ca-certificates.crt "$work/go/"
docker build -t handmade-go -f - "$work/go" <<'END'
FROM handmade-debian
COPY go /usr/local/go
COPY ca-certificates.crt /etc/ssl/certs/
ENV PATH=/usr/local/go/bin:$PATH GOTOOLCHAIN=local
END
