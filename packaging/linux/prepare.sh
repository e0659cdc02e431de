#!/bin/sh
# After the files: the user, and who may read what. Nothing is started: gancho.yaml has to be edited first, and a slot that nobody
# reads holds the source's WAL.
set -e
systemd-sysusers gancho.conf
systemd-tmpfiles --create gancho.conf
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	# An upgrade of what runs: requests in flight finish, and the new process continues where the old one stopped.
	systemctl try-restart gancho.service 'gancho@*.service' || true
fi
exit 0
