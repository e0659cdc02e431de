package main

import (
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
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
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return "", true
	}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		shown = urlWithoutPassword(dsn)
	} else {
		shown = strings.TrimSpace(passwordSettings.ReplaceAllString(dsn, ""))
	}
	if config.Password != "" && strings.Contains(shown, config.Password) || strings.ContainsFunc(shown, func(r rune) bool { return r < ' ' }) {
		return "", true // it is the name of the role as well, or something else was taken for it
	}
	return shown, shown != dsn
}

func urlWithoutPassword(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return "" // of several hosts
	}
	written := u.String() // which may differ from dsn in its quoting
	if _, has := u.User.Password(); has {
		u.User = url.User(u.User.Username())
	}
	if query := u.Query(); query.Has("password") || query.Has("sslpassword") {
		query.Del("password")
		query.Del("sslpassword")
		u.RawQuery = query.Encode()
	}
	if shown := u.String(); shown != written {
		return shown
	}
	return dsn
}
