package config

import (
	"net/url"
	"slices"
	"strings"
)

// uri is a connection URI, divided as libpq and pgx divide it; their rules are not net/url's: a # and a + mean themselves, each of several
// hosts has a port, and the user ends at the first @. https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
type uri struct {
	scheme, user string // with their :// and @
	hosts        string // and the path
	query        string // with its ?
}

// parseURI reports false of a connection string that is not a URI.
func parseURI(dsn string) (u uri, ok bool) {
	scheme, rest, ok := strings.Cut(dsn, "://")
	if !ok || scheme != "postgres" && scheme != "postgresql" {
		return uri{}, false
	}
	u.scheme = scheme + "://"
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		u.user, rest = rest[:i+1], rest[i+1:]
	}
	u.hosts = rest
	if i := strings.IndexByte(rest, '?'); i >= 0 {
		u.hosts, u.query = rest[:i], rest[i:]
	}
	return u, true
}

func (u uri) String() string { return u.scheme + u.user + u.hosts + u.query }

// InDatabase is the connection string, which is valid, with another database.
func InDatabase(dsn Secret, database string) Secret {
	text := dsn.Reveal()
	if u, ok := parseURI(text); ok {
		// In the path a name could not begin with a /. The last of several counts.
		if u.query = strings.TrimRight(u.query, "?&"); u.query == "" {
			u.query = "?"
		} else {
			u.query += "&"
		}
		u.query += "dbname=" + strings.ReplaceAll(url.QueryEscape(database), "+", "%20")
		return Secret(u.String())
	}
	quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(database)
	return Secret(text + " dbname='" + quoted + "'") // the last one counts
}

// WithoutPasswords is a connection URI without the passwords in it, else as it is written; ok: it is a URI.
func WithoutPasswords(dsn string) (shown string, ok bool) {
	u, ok := parseURI(dsn)
	if !ok {
		return "", false
	}
	if name, _, has := strings.Cut(u.user, ":"); has {
		u.user = name + "@"
	}
	if u.query == "" {
		return u.String(), true
	}
	var kept []string
	for pair := range strings.SplitSeq(u.query[1:], "&") {
		key, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.PathUnescape(key); err != nil || !slices.Contains([]string{"password", "sslpassword"}, strings.TrimSpace(decoded)) {
			kept = append(kept, pair)
		}
	}
	u.query = strings.TrimSuffix("?"+strings.Join(kept, "&"), "?")
	return u.String(), true
}
