#!/bin/sh
# Before the files of an rpm: the user that some of them belong to.
set -e
printf '%s\n' 'u gancho - "Gancho webhooks" /var/cache/gancho /usr/sbin/nologin' | systemd-sysusers -
exit 0
