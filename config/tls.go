package config

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"path/filepath"

	"gancho/internal/strictyaml"
)

// TLS are the files of a listener's certificate, with its chain, and of its key; none: the listener speaks plain HTTP.
type TLS struct{ Certificate, Key string }

// On reports whether the listener speaks TLS.
func (t *TLS) On() bool { return t.Certificate != "" }

// decode reads tls: {certificate, key}: names of files, relative to the configuration's as it was given. Not PEM texts, as endpoints may
// have: a listener reads its files again when they change.
func (t *TLS) decode(v value, file string) {
	name := func(into *string) func(value) {
		return func(v value) {
			if *into = v.Text(); *into != "" && !filepath.IsAbs(*into) {
				*into = filepath.Join(filepath.Dir(file), *into)
			}
		}
	}
	v.Map(strictyaml.Required("certificate", name(&t.Certificate)), strictyaml.Required("key", name(&t.Key)))
	if t.Certificate == "" || t.Key == "" {
		return // which is said already
	}
	switch _, err := tls.LoadX509KeyPair(t.Certificate, t.Key); {
	case err == nil, errors.Is(err, fs.ErrPermission): // the bridge's user can; others run commands with this file, too
	case errors.Is(err, fs.ErrNotExist):
		v.Errorf("write the names of files, relative to this one", "read the certificate and its key: %v", err)
	default:
		v.Errorf("write both as PEM files: the certificate with its chain, the server's own first, and its key without a password", "the certificate and the key do not belong together or cannot be read")
	}
}
