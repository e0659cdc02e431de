package config

import (
	"fmt"
	"io"
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
