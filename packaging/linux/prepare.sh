#!/bin/sh
# Before the files of an rpm, and after those of a deb: the user, and who may read what. Nothing is started: gancho.yaml
# has to be edited first, and a slot that nobody reads holds the source's WAL.
set -e
if [ -f /usr/lib/sysusers.d/gancho.conf ]; then
	systemd-sysusers gancho.conf
else # before the files
	printf '%s\n' 'u gancho - "Gancho webhooks" /var/cache/gancho /usr/sbin/nologin' | systemd-sysusers -
fi
if [ -f /usr/lib/tmpfiles.d/gancho.conf ]; then
	systemd-tmpfiles --create gancho.conf
fi
if [ -d /run/systemd/system ] && [ -f /usr/lib/systemd/system/gancho.service ]; then
	systemctl daemon-reload || true
	# An upgrade of what runs: requests in flight finish, and the new process continues where the old one stopped.
	systemctl try-restart gancho.service 'gancho@*.service' || true
fi
exit 0
