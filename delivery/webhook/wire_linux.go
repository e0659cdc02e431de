package webhook

import "golang.org/x/sys/unix"

// untakenSince reports whether the peer's machine has acknowledged nothing of what was
// written after the first n bytes: then nobody there has read any of it. An end of the
// stream acknowledges what came before it, and so does not hide that something was taken;
// after a reset a late acknowledgement may be missing.
func (w *wire) untakenSince(n int64) bool {
	if w.raw == nil {
		return false
	}
	untaken := false
	err := w.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		const handshake = 1 // counted like a byte: https://www.rfc-editor.org/rfc/rfc9293#section-3.4
		untaken = err == nil && info.Bytes_acked > 0 && int64(info.Bytes_acked)-handshake <= n
	})
	return err == nil && untaken
}
