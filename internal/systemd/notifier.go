package systemd

import (
	"net"
	"strconv"
	"strings"
	"time"
)

// Notifier tells the service manager how the process is. Nil tells nobody. Its methods may be
// called by several goroutines.
type Notifier struct {
	socket   *net.UnixConn
	watchdog time.Duration
}

// NewNotifier returns the notifier of the environment's NOTIFY_SOCKET and WATCHDOG_USEC, read with
// lookup as by os.LookupEnv; pid is the process's own. Without a socket, or when that cannot be
// reached, it is nil. The caller closes it.
func NewNotifier(lookup func(string) (string, bool), pid int) *Notifier {
	address, _ := lookup("NOTIFY_SOCKET")
	if address == "" {
		return nil
	}
	socket, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"}) // @ begins an abstract name, in Go, too
	if err != nil {
		return nil
	}
	return &Notifier{socket: socket, watchdog: watchdogOf(lookup, pid)}
}

// watchdogOf is WATCHDOG_USEC, when it is meant for this process.
func watchdogOf(lookup func(string) (string, bool), pid int) time.Duration {
	if of, set := lookup("WATCHDOG_PID"); set && of != strconv.Itoa(pid) {
		return 0
	}
	text, _ := lookup("WATCHDOG_USEC")
	microseconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || microseconds <= 0 {
		return 0
	}
	return time.Duration(microseconds) * time.Microsecond
}

// Watchdog is the time after which systemd kills a process that has not called Alive; 0: it does not.
func (n *Notifier) Watchdog() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// Ready says that the start, or a reload, is over.
func (n *Notifier) Ready() { n.send("READY=1") }

// Reloading says that the configuration is being read again; Ready ends it.
func (n *Notifier) Reloading() { n.send("RELOADING=1") }

// Stopping says that the process ends by itself or because it was told to.
func (n *Notifier) Stopping() { n.send("STOPPING=1\nSTATUS=stopping") }

// Status sets the line that systemctl status shows; of several lines, the first.
func (n *Notifier) Status(line string) {
	line, _, _ = strings.Cut(line, "\n")
	n.send("STATUS=" + line)
}

// Alive restarts the watchdog's time.
func (n *Notifier) Alive() { n.send("WATCHDOG=1") }

func (n *Notifier) send(message string) {
	if n == nil {
		return
	}
	_, _ = n.socket.Write([]byte(message)) // nobody listens: systemd is being restarted, and asks again
}

// Close ends the connection.
func (n *Notifier) Close() {
	if n != nil {
		_ = n.socket.Close()
	}
}
