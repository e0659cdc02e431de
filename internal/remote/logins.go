package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// ErrNoLogin reports an address without a login.
var ErrNoLogin = errors.New("there is no login at this address")

// Logins are the tokens that the user has logged in with: a file for each address, which its owner alone may read.
type Logins struct{ dir string }

// OpenLogins returns those in the user's configuration directory.
func OpenLogins() (*Logins, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("find the user's configuration directory: %w", err)
	}
	return &Logins{filepath.Join(dir, "gancho", "logins")}, nil
}

// path is the file of an address that CheckAddress has returned.
func (l *Logins) path(address string) string { return filepath.Join(l.dir, url.QueryEscape(address)) }

// Token is that of an address; ErrNoLogin: there is none.
func (l *Logins) Token(address string) (string, error) {
	text, err := os.ReadFile(l.path(address))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", ErrNoLogin
	case err != nil:
		return "", fmt.Errorf("read the login: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Keep stores the token of an address in place of the one before.
func (l *Logins) Keep(address, token string) error {
	if err := l.write(address, token); err != nil {
		return fmt.Errorf("keep the login: %w", err)
	}
	return nil
}

// write replaces the file whole: another command may read it meanwhile.
func (l *Logins) write(address, token string) error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	next, err := os.CreateTemp(l.dir, ".login-*") // 0600
	if err != nil {
		return err
	}
	_, err = next.WriteString(token + "\n")
	if err = errors.Join(err, next.Close()); err == nil {
		err = os.Rename(next.Name(), l.path(address))
	}
	if err != nil {
		_ = os.Remove(next.Name()) // it may hold the token
	}
	return err
}

// Forget deletes the token of an address; ErrNoLogin: there is none.
func (l *Logins) Forget(address string) error {
	err := os.Remove(l.path(address))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrNoLogin
	case err != nil:
		return fmt.Errorf("forget the login: %w", err)
	}
	return nil
}
