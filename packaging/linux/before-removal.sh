#!/bin/sh
# Stops the services when the package goes, and not when another version comes: remove is of a deb, 0 of an rpm.
set -e
case ${1:-} in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl --no-reload disable --now gancho.service 'gancho@*.service' || true
	fi
	;;
esac
exit 0
