#!/bin/sh
# The slot stays, and with it what was not delivered: only a person drops it.
set -e
case ${1:-} in
remove | purge | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload || true
	fi
	# A deb's files are still there when it is removed, but for its own when it is purged, and an rpm's that were edited, under another name.
	slots=$(
		{
			[ -f /etc/gancho/gancho.yaml ] || [ -f /etc/gancho/gancho.yaml.rpmsave ] || echo gancho
			# Each key on a line of its own, also those of {dsn: ..., slot: ...}, and no comments.
			sed 's/\(^\|[[:space:]]\)#.*//' /etc/gancho/*.yaml /etc/gancho/*.yaml.rpmsave 2>/dev/null | tr ',{}' '\n\n\n' |
				sed -n "s/^[[:space:]]*[\"']\{0,1\}slot[\"']\{0,1\}[[:space:]]*:[[:space:]]*[\"']\{0,1\}\([a-z0-9_]\{1,\}\)[\"']\{0,1\}[[:space:]]*$/\1/p"
		} | sort -u
	)
	cat <<'END'
gancho: the replication slot and the publications at the source are still there, and the source keeps its WAL for
the slot. If Gancho does not come back, run this in the source's database (with the names that are in gancho.yaml):

END
	for slot in $slots; do
		echo "  SELECT pg_drop_replication_slot('$slot');"
	done
	[ -n "$slots" ] || echo "  SELECT pg_drop_replication_slot('NAME');   -- what source.slot is, and gancho where there is none"
	cat <<'END'
  DROP PUBLICATION IF EXISTS gancho, gancho_insert;
  -- DROP SCHEMA gancho CASCADE;   -- endpoints, the log of deliveries and kept events, where there is a state.key
  -- SELECT slot_name, active FROM pg_replication_slots;   -- where nobody knows the slot's name any more

END
	;;
esac
case ${1:-} in
remove)
	echo "gancho: a purge also deletes /etc/gancho. Keep a copy of credentials/STATE_KEY: without it nobody reads what is stored in the schema gancho."
	;;
purge)
	# Rules, keys and what other instances have were not the package's. They go with the configuration, because purge says so.
	rm -rf /var/cache/gancho /etc/gancho
	;;
esac
exit 0
