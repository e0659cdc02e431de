#!/usr/bin/env bash
# A Go service that systemd's watchdog ends looks as if it had exited by itself with 2, and is not restarted where 2 means "do not".
#
# Version   Go 1.26.8; systemd's WatchdogSignal= is SIGABRT unless it is set (observed with systemd 252).
# Expected  A process that is ended by SIGABRT is reported as killed by that signal: its parent sees 128 + 6, and a unit with
#           RestartPreventExitStatus=2, for wrong usage, restarts it.
# Behaviour Go's runtime catches SIGABRT, prints the goroutines and exits with status 2, the status of a panic, too. With
#           Type=notify, WatchdogSec= and RestartPreventExitStatus=2 a service that hangs is ended and stays down
#           (code=exited, status=2, Result=watchdog, NRestarts=0). GOTRACEBACK=crash has it die of the signal.
# Output    default: exit status 2
#           GOTRACEBACK=all: exit status 2
#           GOTRACEBACK=crash: killed by signal 6
#
# Needs: go. Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
ulimit -c 0
printf 'module try\n\ngo 1.26\n' >go.mod
cat >main.go <<'GO'
package main

import (
	"fmt"
	"time"
)

func main() {
	fmt.Println("ready")
	<-time.After(time.Hour)
}
GO
go build -o service .
try() {
	local name=$1 status=0
	shift
	mkfifo out.$$
	env "$@" ./service >out.$$ 2>/dev/null &
	read -r _ <out.$$
	kill -ABRT $!
	wait $! 2>/dev/null || status=$?
	rm out.$$
	if [ $status -gt 128 ]; then echo "$name: killed by signal $((status - 128))"; else echo "$name: exit status $status"; fi
}
{
	try default GOTRACEBACK=single
	try GOTRACEBACK=all GOTRACEBACK=all
	try GOTRACEBACK=crash GOTRACEBACK=crash
} >result
cat result
diff - result <<'OUT'
default: exit status 2
GOTRACEBACK=all: exit status 2
GOTRACEBACK=crash: killed by signal 6
OUT
