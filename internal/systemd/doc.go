// Package systemd speaks to the service manager that has started the process: that it is ready,
// reloads, stops and is alive (sd_notify), and with which level a line of the journal is.
//
// It does nothing in a process that systemd has not started, and on other systems. Nothing of it
// can fail the bridge: a service manager that does not listen restarts what it misses.
//
// The protocol is a datagram on the socket that NOTIFY_SOCKET names:
// https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
package systemd
