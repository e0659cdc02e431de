package main

import (
	"os"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"gancho/config"
)

// exportOf is the line that gives a shell the connection string for the next command. A password is never
// printed: the line says where the next command takes it from.
func exportOf(dsn string) string {
	if os.Getenv(sourceVariable) == dsn && dsn != "" {
		return ""
	}
	shown, secret := withoutPassword(dsn)
	switch {
	case shown == "":
		return "  export " + sourceVariable + "=...  # the connection string\n"
	case secret:
		return "  export " + sourceVariable + "=" + shellWord(shown) + "  # without its password: put that into PGPASSWORD, or into ~/.pgpass\n"
	}
	return "  export " + sourceVariable + "=" + shellWord(shown) + "\n"
}

// passwordSettings are the passwords in a connection string of the form key=value.
var passwordSettings = regexp.MustCompile(`(?:^|\s)(?:ssl)?password\s*=\s*(?:'(?:\\.|[^'\\])*'|(?:\\.|[^\s'\\])*)`)

// withoutPassword is a connection string without its passwords, empty if that cannot be told. secret: it
// has one.
func withoutPassword(dsn string) (shown string, secret bool) {
	parsed, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return "", true
	}
	shown, uri := config.WithoutPasswords(dsn)
	if !uri {
		shown = strings.TrimSpace(passwordSettings.ReplaceAllString(dsn, ""))
	}
	if parsed.Password != "" && strings.Contains(shown, parsed.Password) || strings.ContainsFunc(shown, func(r rune) bool { return r < ' ' }) {
		return "", true // it is the name of the role as well, or something else was taken for it
	}
	return shown, shown != dsn
}
