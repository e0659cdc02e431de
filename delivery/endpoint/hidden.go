package endpoint

import (
	"fmt"
	"io"
)

// Masked stands for what is not shown, and in an edit for the value that is
// there already.
const Masked = "***"

// Hidden is a text that is never printed: in every format, and in JSON, YAML
// and text encodings, it is ***. Reveal returns it.
type Hidden string

// Reveal returns the text itself.
func (h Hidden) Reveal() string { return string(h) }

// String returns ***, or nothing for an empty text.
func (h Hidden) String() string {
	if h == "" {
		return ""
	}
	return Masked
}

// Format prints what String returns, whatever the verb.
func (h Hidden) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, h.String()) }

// MarshalText returns what String returns, for JSON and YAML.
func (h Hidden) MarshalText() ([]byte, error) { return []byte(h.String()), nil }
