package systemd

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// identity is DEVICE:INODE of an open file; empty: it is none.
func identity(w io.Writer) string {
	f, ok := w.(*os.File)
	if !ok {
		return ""
	}
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}
