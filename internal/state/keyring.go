package state

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

const (
	keySize = 32 // AES-256
	// sealVersion begins every sealed value, so that another construction may follow.
	sealVersion = 1
	// bareKeyID is the id of a key that is written without one.
	bareKeyID = "1"
)

// Keyring are the keys of state.key: the first encrypts, all decrypt. However it
// is printed, it shows only the ids of its keys.
//
// A sealed value is <version> <length of the key's id> <id> <nonce>
// <ciphertext and tag>, AES-256-GCM with a random nonce of 96 bits (which is
// good for 2^32 values under one key). What precedes the nonce and what the
// value belongs to are authenticated with it: a value that is copied to another
// endpoint does not open.
type Keyring struct {
	keys []sealKey
}

type sealKey struct {
	id   string
	aead cipher.AEAD
	weak bool   // it was not made at random
	hash []byte // the key of hashes
}

// KeyError is a sealed value that the keys of state.key do not open.
type KeyError struct {
	// What the value is: `the settings of endpoint "crm"`.
	What string
	// ID is that of the key that has sealed it; empty: unknown.
	ID string
	// Known: state.key has a key of this id.
	Known bool
}

// Error names the key by its id and says what to do.
func (e *KeyError) Error() string {
	switch {
	case e.ID == "":
		return fmt.Sprintf("decrypt %s: it is not what Gancho has stored there; restore it from a backup, or remove it (an endpoint can be added again)", e.What)
	case e.Known:
		return fmt.Sprintf("decrypt %s: the key %q of state.key is not the one that has encrypted it; put the right one under this id in state.key", e.What, e.ID)
	}
	return fmt.Sprintf("decrypt %s: it is encrypted with the key %q, which state.key does not have; add it behind the first one (%s:<base64>), and run gancho secrets rekey before you remove it",
		e.What, e.ID, e.ID)
}

// validKeyID excludes the separators of state.key, and long ids.
var validKeyID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,32}$`)

// ParseKeys reads state.key: <id>:<base64 of 32 bytes>, several separated by
// commas, or one bare base64 key, whose id is 1. Its errors do not show the text.
func ParseKeys(text string) (*Keyring, error) {
	k := &Keyring{}
	parts := strings.Split(strings.TrimSpace(text), ",")
	for i, part := range parts {
		id, encoded, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok {
			id, encoded = bareKeyID, id
			if len(parts) > 1 {
				return nil, fmt.Errorf("parse keys: key %d of %d has no id; write %s", i+1, len(parts), keyForm)
			}
		}
		if !validKeyID.MatchString(id) {
			return nil, fmt.Errorf("parse keys: the id of key %d must have 1 to 32 letters, digits, '.', '-' or '_'; write %s", i+1, keyForm)
		}
		if k.find(id) != nil {
			return nil, fmt.Errorf("parse keys: key %d has the id of one before it; give each its own", i+1)
		}
		key, err := decodeKey(encoded)
		if err != nil {
			return nil, fmt.Errorf("parse keys: key %d %w; create one with: gancho secrets generate-key", i+1, err)
		}
		var aead cipher.AEAD
		block, err := aes.NewCipher(key)
		if err == nil {
			aead, err = cipher.NewGCM(block)
		}
		if err != nil {
			return nil, fmt.Errorf("create a cipher: %w", err)
		}
		k.keys = append(k.keys, sealKey{id, aead, isWeak(key), keyedHash(key, "pseudonym")})
	}
	return k, nil
}

const keyForm = "<id>:<base64 of 32 bytes>, several separated by commas"

func decodeKey(encoded string) ([]byte, error) {
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return nil, errors.New("is not base64")
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("has %d bytes, 32 are needed", len(key))
	}
	return key, nil
}

// isWeak reports whether a key is such as a person writes: text, or bytes that are the
// same or rise evenly. Of random keys one in 10^13 is.
func isWeak(key []byte) bool {
	text, even := true, true
	for i, b := range key {
		text = text && b >= ' ' && b <= '~'
		even = even && (i == 0 || b-key[i-1] == key[1]-key[0])
	}
	return text || even
}

// Weak says of each key that can be guessed what that means and what to do.
func (k *Keyring) Weak() []string {
	var all []string
	for i := range k.keys {
		if k.keys[i].weak {
			all = append(all, fmt.Sprintf("the key %q of state.key is text or a pattern, not 32 random bytes: whoever guesses it reads what is stored; "+
				"create one with gancho secrets generate-key, put it in front, and run gancho secrets rekey", k.keys[i].id))
		}
	}
	return all
}

// GenerateKey returns a new random key as <id>:<base64>, as ParseKeys reads it.
func GenerateKey(id string) (string, error) {
	if !validKeyID.MatchString(id) {
		return "", fmt.Errorf("generate a key: the id %q must have 1 to 32 letters, digits, '.', '-' or '_'", id)
	}
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails: it ends the process rather than return weak bytes
	return id + ":" + base64.StdEncoding.EncodeToString(key), nil
}

// IDs are the ids of the keys, the one that seals first. The caller owns the slice.
func (k *Keyring) IDs() []string {
	ids := make([]string, len(k.keys))
	for i := range k.keys {
		ids[i] = k.keys[i].id
	}
	return ids
}

// Format hides the keys from every verb of fmt.
func (k *Keyring) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "keys "+strings.Join(k.IDs(), ", "))
}

func (k *Keyring) find(id string) *sealKey {
	if i := slices.IndexFunc(k.keys, func(key sealKey) bool { return key.id == id }); i >= 0 {
		return &k.keys[i]
	}
	return nil
}

// seal encrypts a value for the place that it is stored in.
func (k *Keyring) seal(at sealPlace, plain []byte) []byte {
	key := k.keys[0]
	header := append([]byte{sealVersion, byte(len(key.id))}, key.id...)
	nonce := make([]byte, key.aead.NonceSize())
	_, _ = rand.Read(nonce)
	return key.aead.Seal(slices.Concat(header, nonce), nonce, plain, slices.Concat(header, []byte(at.text)))
}

// unseal decrypts what seal has encrypted; what describes it in errors.
func (k *Keyring) unseal(at sealPlace, what string, sealed []byte) ([]byte, error) {
	id, header, rest, ok := cutHeader(sealed)
	if !ok {
		return nil, &KeyError{What: what}
	}
	key := k.find(id)
	if key == nil {
		return nil, &KeyError{What: what, ID: id}
	}
	size := key.aead.NonceSize()
	if len(rest) < size {
		return nil, &KeyError{What: what}
	}
	plain, err := key.aead.Open(nil, rest[:size], rest[size:], slices.Concat(header, []byte(at.text)))
	if err != nil {
		return nil, &KeyError{What: what, ID: id, Known: true}
	}
	return plain, nil
}

// keyedHash is HMAC-SHA256 of texts of any content.
func keyedHash(key []byte, texts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, t := range texts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(t), t) // never fails
	}
	return h.Sum(nil)
}

// Subjects are what stands for a tenant and an ordering key, which may be personal data,
// where it is kept that there was something of them: for each key <id>:<hash under it>, the
// first key's first. Without the keys nobody can try values.
func (k *Keyring) Subjects(tenant, key string) []string {
	all := make([]string, len(k.keys))
	for i := range k.keys {
		all[i] = k.keys[i].id + ":" + hex.EncodeToString(keyedHash(k.keys[i].hash, "subject", tenant, key)[:16])
	}
	return all
}

// isOf reports whether what Subjects has returned, maybe under keys of another time, is one
// of these; known: it is by a key that there still is.
func (k *Keyring) isOf(subject string, subjects []string) (is, known bool) {
	id, _, ok := strings.Cut(subject, ":")
	return slices.Contains(subjects, subject), ok && k.find(id) != nil
}

// current reports whether the value is sealed with the first key.
func (k *Keyring) current(sealed []byte) bool {
	id, _, _, ok := cutHeader(sealed)
	return ok && id == k.keys[0].id
}

func cutHeader(sealed []byte) (id string, header, rest []byte, ok bool) {
	if len(sealed) < 2 || sealed[0] != sealVersion || len(sealed) < 2+int(sealed[1]) {
		return "", nil, nil, false
	}
	end := 2 + int(sealed[1])
	return string(sealed[2:end]), sealed[:end], sealed[end:], true
}
