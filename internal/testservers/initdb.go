package testservers

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// initdbArguments are those of initdb beside the directory.
var initdbArguments = []string{"-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"}

// initialize makes the server's data directory.
func (p *Postgres) initialize() error {
	initdb := exec.Command(filepath.Join(p.bin, "initdb"), append([]string{"-D", p.data()}, initdbArguments...)...)
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: p.user}
	initdb.Dir = p.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// initializeCopied makes it a copy of one that initdb made before, by the same programs, which is a tenth of the work. All copies
// say that they are the same server: they are for the one server that all tests of a package share.
func (p *Postgres) initializeCopied() error {
	kept, err := p.keptData()
	if err != nil {
		return p.initialize() // there is no place to keep one
	}
	if _, err := os.Stat(kept); err == nil {
		return copyTree(kept, p.data())
	}
	if err := p.initialize(); err != nil {
		return err
	}
	return p.keepData(kept)
}

// keepData keeps a copy of the data directory under a name that a whole one alone has, whatever is killed or switched off meanwhile.
// Whoever is done first keeps its own.
func (p *Postgres) keepData(kept string) error {
	parent := filepath.Dir(kept)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	making, err := os.MkdirTemp(parent, "making-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(making) }()
	whole := filepath.Join(making, "data")
	if err := copyTree(p.data(), whole); err != nil {
		return err
	}
	syscall.Sync()
	if err := os.Rename(whole, kept); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// keptData is where the data directory is kept that initdb made: another for other programs and arguments, for another user, to whom
// it belongs, and for another time zone, which it writes into the settings.
func (p *Postgres) keptData() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	server, err := os.Stat(filepath.Join(p.bin, "postgres"))
	if err != nil {
		return "", err
	}
	zone, _ := os.Readlink("/etc/localtime") // empty where it is a file
	of := fmt.Appendln(nil, p.bin, server.Size(), server.ModTime().UnixNano(), initdbArguments, os.Getuid(), os.Getenv("TZ"), zone)
	digest := sha256.Sum256(of)
	return filepath.Join(cache, "gancho", fmt.Sprintf("initdb-%x", digest[:8])), nil
}

// copyTree copies a directory with its files' owners.
func copyTree(from, to string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w\n%s", from, err, out)
	}
	return nil
}
