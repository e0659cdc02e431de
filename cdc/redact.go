package cdc

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Redacted returns the error of an attempt to connect without any part of its
// connection string: in one that is typed wrongly the password may stand as the
// user's name, the host or the database. [user], [host] and so on stand where they
// were, in the messages of the server as well. Other errors are returned as they are.
func Redacted(err error) error {
	failed, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok {
		return err
	}
	var parts []part
	add := func(name, text string) {
		if _, err := netip.ParseAddr(text); text != "" && err != nil { // an address is shown: it is no password
			parts = append(parts, part{name: name, text: text})
			if plain.MatchString(text) && len(text) <= maxIdentifier {
				return
			}
			// The server cuts it, or writes its characters in another way.
			for _, run := range runs.FindAllString(text, -1) {
				parts = append(parts, part{name: name, text: run, anywhere: true})
			}
		}
	}
	c := failed.Config
	add("[password]", c.Password)
	add("[user]", c.User)
	add("[database]", c.Database)
	add("[host]", c.Host)
	add("[host]", filepath.Clean(c.Host)) // of a socket
	for _, f := range c.Fallbacks {
		add("[host]", f.Host)
		add("[host]", filepath.Clean(f.Host))
	}
	for name, value := range c.RuntimeParams {
		shown := "[" + name + "]"
		if !parameterName.MatchString(name) {
			shown = "[parameter]"
			add(shown, name)
		}
		if !slices.Contains([]string{"database", "UTC", "UTF8", "gancho"}, value) { // our own
			add(shown, value)
		}
	}
	// The longest first: one may contain another.
	slices.SortStableFunc(parts, func(a, b part) int { return len(b.text) - len(a.text) })
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		for _, text := range []*string{&pg.Message, &pg.Detail, &pg.Hint} {
			*text = redact(*text, parts)
		}
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		dns.Name = "[host]"
	}
	return &redactedError{text: redact(connectPrefix.ReplaceAllString(err.Error(), ""), parts), err: err}
}

// part is a part of a connection string, and what is shown instead.
type part struct {
	name, text string
	anywhere   bool // also within a word
}

var (
	plain = regexp.MustCompile(`^[\w.-]+$`)
	runs  = regexp.MustCompile(`\w{3,63}`)
)

// parameterName is what a setting is called. Anything else that is read as a name
// is another part of a connection string that is typed wrongly.
var parameterName = regexp.MustCompile(`^[A-Za-z_.]+$|^extra_float_digits$`)

// connectPrefix is the beginning of pgconn's errors, which quotes the DSN.
var connectPrefix = regexp.MustCompile("(?s)failed to connect to `.*`:\\s*(AfterConnect error: )?")

func redact(text string, parts []part) string {
	for _, p := range parts {
		if p.anywhere {
			text = strings.ReplaceAll(text, p.text, p.name)
		} else {
			text = replaceWord(text, p.text, p.name)
		}
	}
	return text
}

// replaceWord replaces old where it is not a part of a longer word.
func replaceWord(text, old, replacement string) string {
	word := func(c byte) bool {
		return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
	}
	var b strings.Builder
	from := 0
	for at := 0; ; {
		i := strings.Index(text[at:], old)
		if i < 0 {
			return b.String() + text[from:]
		}
		i += at
		end := i + len(old)
		if i > 0 && word(text[i-1]) && word(old[0]) || end < len(text) && word(text[end]) && word(old[len(old)-1]) {
			at = i + 1
			continue
		}
		b.WriteString(text[from:i] + replacement)
		from, at = end, end
	}
}

// redactedError has the text that may be shown, of an error that may not.
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.err }
