package config

import (
	"errors"
	"io/fs"
	"path/filepath"

	"gancho/internal/servercert"
	"gancho/internal/strictyaml"
)

// decodeTLS reads tls: {certificate, key}: names of files, relative to the configuration's as it was given. Not PEM texts, as endpoints
// may have: a listener reads its files again when they change.
func decodeTLS(v value, file string) (files servercert.Files) {
	name := func(into *string) func(value) {
		return func(v value) {
			if *into = v.Text(); *into != "" && !filepath.IsAbs(*into) {
				*into = filepath.Join(filepath.Dir(file), *into)
			}
		}
	}
	v.Map(strictyaml.Required("certificate", name(&files.Certificate)), strictyaml.Required("key", name(&files.Key)))
	return files
}

// checkTLS reports at v what is wrong with the files.
func checkTLS(v value, files servercert.Files) {
	if files.Certificate == "" || files.Key == "" {
		return // there is none, or it is said already
	}
	switch _, err := files.Read(); {
	case err == nil, errors.Is(err, fs.ErrPermission): // the bridge's user can; others run commands with this file, too
	case errors.Is(err, fs.ErrNotExist):
		v.Errorf("write the names of files, relative to this one", "read the certificate and its key: %v", errors.Unwrap(err))
	default:
		v.Errorf("write both as PEM files: the certificate with its chain, the server's own first, and its key without a password", "the certificate and the key do not belong together or cannot be read")
	}
}
