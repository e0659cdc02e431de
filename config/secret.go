package config

import (
	"fmt"
	"io"
	"net/url"

	"github.com/jackc/pgx/v5/pgconn"
)

// Secret is a text that is never printed: in every format, and in JSON, YAML
// and text encodings, it is ***. Reveal returns it.
type Secret string

const hidden = "***"

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns ***, or nothing for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString returns what String does, for %#v.
func (s Secret) GoString() string { return s.String() }

// Format prints what String returns, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON returns *** as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalText returns ***.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML returns ***.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// RedactDSN returns where a PostgreSQL connection string leads, without
// password and settings: postgres://user@host:port/database. A string that
// cannot be understood becomes ***.
func RedactDSN(dsn string) string {
	c, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return hidden
	}
	u := url.URL{Scheme: "postgres", User: url.User(c.User), Host: fmt.Sprintf("%s:%d", c.Host, c.Port), Path: "/" + c.Database}
	return u.String()
}

// RedactURL returns an URL's scheme, host and path, without user, password,
// query and fragment. A string that cannot be understood becomes ***.
func RedactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return hidden
	}
	clean := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return clean.String()
}
