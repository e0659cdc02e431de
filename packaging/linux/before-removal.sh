#!/bin/sh
# Stops the services when the package goes, and not when another version comes: remove is of a deb, 0 of an rpm.
set -e
case ${1:-} in
remove | 0)
	if [ -d /run/systemd/system ]; then
		# To disable the template disables every instance; a pattern would be the name of one that nobody has. To stop knows patterns.
		systemctl --no-reload disable gancho.service gancho@.service || true
		systemctl stop gancho.service 'gancho@*.service' || true
	fi
	;;
esac
exit 0
