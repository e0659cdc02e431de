#!/bin/sh
# The slot stays, and with it what was not delivered: only a person drops it.
set -e
case ${1:-} in
remove | purge | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload || true
	fi
	cat <<'END'
gancho: the replication slot and the publications at the source are still there, and the source keeps its WAL for
the slot. If Gancho does not come back, run this in the source's database (with the names that are in gancho.yaml):

  SELECT pg_drop_replication_slot('gancho');
  DROP PUBLICATION IF EXISTS gancho, gancho_insert;
  -- DROP SCHEMA gancho CASCADE;   -- endpoints, the log of deliveries and kept events, where there is a state.key

END
	;;
esac
if [ "${1:-}" = purge ]; then
	rm -rf /var/cache/gancho
	# The rules and keys were not the package's. They go with the configuration, because purge says so.
	rm -rf /etc/gancho/credentials /etc/gancho/rules
	if [ -d /etc/gancho ]; then
		rmdir --ignore-fail-on-non-empty /etc/gancho
	fi
fi
exit 0
