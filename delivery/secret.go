package delivery

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// secretPrefix marks a base64 secret in the Standard Webhooks specification.
	secretPrefix = "whsec_"
	// minSecret is the fewest bytes of a key that the specification allows.
	minSecret = 24
	newSecret = 32
)

// Secret is a key for signing requests. However it is printed or marshalled,
// it shows only that it is a secret; Reveal is the one way to its text.
type Secret struct {
	key []byte
}

// ParseSecret reads whsec_<base64>, or takes any other text as the bytes of
// the key. Its error does not show the text. A key has at least 24 bytes.
func ParseSecret(text string) (Secret, error) {
	key := []byte(text)
	if encoded, ok := strings.CutPrefix(text, secretPrefix); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			key, err = base64.RawStdEncoding.DecodeString(encoded)
		}
		if err != nil {
			return Secret{}, errors.New("parse secret: what follows whsec_ is not base64; make one with: echo whsec_$(openssl rand -base64 32)")
		}
	}
	if len(key) < minSecret {
		return Secret{}, fmt.Errorf("parse secret: its key has %d bytes, at least %d are needed; make one with: echo whsec_$(openssl rand -base64 32)", len(key), minSecret)
	}
	return Secret{key: key}, nil
}

// GenerateSecret makes a random secret of 32 bytes.
func GenerateSecret() Secret {
	key := make([]byte, newSecret)
	_, _ = rand.Read(key) // never fails: it ends the process rather than return weak bytes
	return Secret{key: key}
}

// Reveal returns the secret as whsec_<base64>, for the person or receiver
// that needs it.
func (s Secret) Reveal() string {
	return secretPrefix + base64.StdEncoding.EncodeToString(s.key)
}

// Equal reports whether both are the same key, in constant time.
func (s Secret) Equal(o Secret) bool { return subtle.ConstantTimeCompare(s.key, o.key) == 1 }

// String hides the secret.
func (s Secret) String() string { return secretPrefix + "***" }

// Format hides the secret from every verb of fmt.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText hides the secret from JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
