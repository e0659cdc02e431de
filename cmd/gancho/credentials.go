package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// credentialsVariable names the directory with the credentials of a service: systemd's
// (LoadCredential=), or that of a mounted secret.
const credentialsVariable = "CREDENTIALS_DIRECTORY"

// variable looks up what ${NAME} stands for in files: the environment variable, or else the
// credential of that name, without the line's end.
func variable(name string) (string, bool) {
	if value, set := os.LookupEnv(name); set {
		return value, true
	}
	directory := os.Getenv(credentialsVariable)
	if directory == "" || !credentialName.MatchString(name) {
		return "", false
	}
	text, err := os.ReadFile(filepath.Join(directory, name)) //nolint:gosec // whoever starts the process names the directory
	if err != nil {
		return "", false // it is not there: readableCredentials has seen the others
	}
	return strings.TrimRight(string(text), "\r\n"), true
}

var credentialName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// readableCredentials refuses a credential that is there and cannot be read: it would be taken for
// one that is not set, and a default for its value.
func readableCredentials() error {
	directory := os.Getenv(credentialsVariable)
	if directory == "" {
		return nil
	}
	entries, err := os.ReadDir(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if err != nil || !credentialName.MatchString(e.Name()) {
			continue
		}
		var f *os.File
		if f, err = os.Open(filepath.Join(directory, e.Name())); err == nil { //nolint:gosec // as above
			err = f.Close()
		}
	}
	if err != nil {
		return fileError{fmt.Errorf("read the credentials of $%s: %w; make them readable for this user", credentialsVariable, err)}
	}
	return nil
}

// before runs before every command.
func before(cmd *cobra.Command, args []string) error {
	if err := cmp.Or(refuseEmpty(cmd, args), refuseAPI(cmd)); err != nil {
		return err
	}
	return readableCredentials()
}
