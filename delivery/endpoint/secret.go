package endpoint

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// The prefixes of the Standard Webhooks specification.
const (
	secretPrefix  = "whsec_" // HMAC-SHA256: v1
	signingPrefix = "whsk_"  // ed25519, private: v1a
	publicPrefix  = "whpk_"  // ed25519, public
)

// newKey is the length of a new HMAC key, in bytes.
const newKey = 32

// Secret is a key for signing requests: of HMAC-SHA256, which the receiver has
// too, or of ed25519, of which the receiver has the public half. However it is
// printed or marshalled, it shows only that it is a secret; Reveal is the one
// way to its text. The zero Secret signs and verifies nothing.
type Secret struct{ *secret } // a pointer, because several lists have the same secrets; nil: the zero Secret

// secret does not change.
type secret struct {
	key     []byte // HMAC's
	written string // of an HMAC key, if Reveal returns another text
	text    bool   // the key was written as a text
	pair    *pair  // nil: it is no key of ed25519
}

// pair is a key of ed25519.
type pair struct {
	signing ed25519.PrivateKey // nil in a key that only verifies
	public  ed25519.PublicKey
}

// ofNothing is what the zero Secret holds.
var ofNothing secret

func (s Secret) held() *secret { return cmp.Or(s.secret, &ofNothing) }

func (s Secret) ofPair() pair {
	if p := s.held().pair; p != nil {
		return *p
	}
	return pair{}
}

// ParseSecret reads whsec_<base64> (HMAC) or whsk_<base64> (ed25519: 32 bytes
// of seed, or 64 of seed and public key), or takes any other text as the bytes
// of an HMAC key (IsText), of which there are at least 24:
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
//
// Its error does not show the text.
func ParseSecret(text string) (Secret, error) {
	s, m := parseSecret(text)
	if m != nil {
		return Secret{}, fmt.Errorf("parse secret: %w", m)
	}
	return s, nil
}

// decodeSecret reads a signing secret of a document.
func decodeSecret(v value) Secret {
	text := v.Text()
	if text == "" {
		return Secret{}
	}
	s, m := parseSecret(text)
	m.at(v)
	return s
}

func parseSecret(text string) (Secret, *SettingError) {
	const hint = "create one with: echo whsec_$(openssl rand -base64 32)"
	switch {
	case strings.HasPrefix(text, signingPrefix):
		return parseSigningKey(text)
	case strings.HasPrefix(text, publicPrefix):
		return Secret{}, mistakef("write the private key, whsk_...", "whpk_ is a public key, which cannot sign")
	}
	key := []byte(text)
	encoded, prefixed := strings.CutPrefix(text, secretPrefix)
	if prefixed {
		var err error
		if key, err = decodeBase64(encoded); err != nil {
			return Secret{}, mistakef(hint, "what follows whsec_ in the secret is not base64")
		}
	}
	if len(key) < minKey {
		return Secret{}, mistakef(hint, "the secret has %d bytes, at least %d are needed", len(key), minKey)
	}
	s := Secret{&secret{key: key, text: !prefixed}}
	if s.Reveal() != text {
		s.written = text
	}
	return s, nil
}

func parseSigningKey(text string) (Secret, *SettingError) {
	raw, err := decodeBase64(strings.TrimPrefix(text, signingPrefix))
	if err != nil || len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize {
		return Secret{}, mistakef("it is base64 of the 32 bytes of an ed25519 seed, or of the 64 of seed and public key",
			"what follows whsk_ in the secret is not a signing key")
	}
	s := secretOf(raw[:ed25519.SeedSize])
	if len(raw) == ed25519.PrivateKeySize && !bytes.Equal(s.SigningKey(), raw) {
		return Secret{}, mistakef("copy it again", "the two halves of the ed25519 key do not belong together")
	}
	return s, nil
}

// ParseVerifier reads what a receiver verifies with: a public key
// (whpk_<base64>), or whatever ParseSecret reads. Its error does not show the
// text.
func ParseVerifier(text string) (Secret, error) {
	encoded, ok := strings.CutPrefix(text, publicPrefix)
	if !ok {
		return ParseSecret(text)
	}
	key, err := decodeBase64(encoded)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return Secret{}, fmt.Errorf("parse public key: what follows whpk_ is not base64 of %d bytes; copy it again from where the endpoint was created", ed25519.PublicKeySize)
	}
	return Secret{&secret{pair: &pair{public: key}}}, nil
}

func secretOf(seed []byte) Secret {
	private := ed25519.NewKeyFromSeed(seed)
	public, _ := private.Public().(ed25519.PublicKey) // as documented
	return Secret{&secret{pair: &pair{private, public}}}
}

func decodeBase64(text string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
}

// GenerateSecret creates a random HMAC key of 32 bytes.
func GenerateSecret() Secret {
	key := make([]byte, newKey)
	_, _ = rand.Read(key) // never fails: it ends the process rather than return weak bytes
	return Secret{&secret{key: key}}
}

// GenerateSigningKey creates a random ed25519 key.
func GenerateSigningKey() Secret {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails, as above
	return secretOf(seed)
}

// Reveal returns the secret as whsec_, whsk_ or, when it only verifies, whpk_
// and base64, for the person or receiver that needs it.
func (s Secret) Reveal() string {
	switch p := s.ofPair(); {
	case p.signing != nil:
		return signingPrefix + base64.StdEncoding.EncodeToString(p.signing)
	case p.public != nil:
		return s.Public()
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(s.HMACKey())
}

// Written returns the secret as it was written: a text stays one. ParseSecret reads it back.
func (s Secret) Written() string { return cmp.Or(s.held().written, s.Reveal()) }

// Key returns the key of a Signature in a form, nil of a secret that is no HMAC key. ok:
// the secret can be in that form.
func (s Secret) Key(form KeyForm) (key []byte, ok bool) {
	switch {
	case s.HMACKey() == nil:
		return nil, true
	case form == KeyText:
		return []byte(s.Written()), true
	case !s.IsText():
		return s.HMACKey(), true
	}
	key, err := decodeBase64(s.written)
	return key, err == nil
}

// IsText reports whether the secret was written as a text, whose bytes are the key.
// Receivers' libraries take every secret as base64: they need it as Reveal returns it.
func (s Secret) IsText() bool { return s.held().text }

// Public returns whpk_<base64> of an ed25519 key, which is no secret, and
// nothing for an HMAC key, which has no public half.
func (s Secret) Public() string {
	public := s.PublicKey()
	if public == nil {
		return ""
	}
	return publicPrefix + base64.StdEncoding.EncodeToString(public)
}

// Equal reports whether both are the same key, in constant time. A private key
// and its public half are two keys.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare(s.HMACKey(), o.HMACKey())&subtle.ConstantTimeCompare(s.SigningKey(), o.SigningKey())&
		subtle.ConstantTimeCompare(s.PublicKey(), o.PublicKey()) == 1
}

// SharedSecrets returns the names of endpoints that have a signing secret in common, in
// groups, each in the order of the list. Their receivers can sign as Gancho to each other.
func SharedSecrets(endpoints []*Endpoint) [][]string {
	var order []string
	names := map[string][]string{}
	for i := range endpoints {
		for _, s := range endpoints[i].Secrets {
			text := s.Reveal()
			of := names[text]
			if of == nil {
				order = append(order, text)
			}
			if len(of) == 0 || of[len(of)-1] != endpoints[i].Name { // it has it twice
				names[text] = append(of, endpoints[i].Name)
			}
		}
	}
	var groups [][]string
	for _, text := range order {
		if len(names[text]) > 1 {
			groups = append(groups, names[text])
		}
	}
	return groups
}

// HMACKey returns the key of HMAC-SHA256, or nil. It is not a copy.
func (s Secret) HMACKey() []byte { return s.held().key }

// SigningKey returns the private key of ed25519, or nil. It is not a copy.
func (s Secret) SigningKey() ed25519.PrivateKey { return s.ofPair().signing }

// PublicKey returns the public key of ed25519, or nil. It is not a copy.
func (s Secret) PublicKey() ed25519.PublicKey { return s.ofPair().public }

// signs reports whether the secret can sign.
func (s Secret) signs() bool { return len(s.HMACKey()) > 0 || s.SigningKey() != nil }

// String hides the secret.
func (s Secret) String() string {
	switch p := s.ofPair(); {
	case p.signing != nil:
		return signingPrefix + Masked
	case p.public != nil:
		return publicPrefix + Masked
	}
	return secretPrefix + Masked
}

// Format hides the secret from every verb of fmt.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText hides the secret from JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

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
