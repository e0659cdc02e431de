package config

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
)

// decodeSecret reads a signing secret, as whsec_<base64> or as it is. The bytes
// that sign must be 24 at least:
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
func decodeSecret(v value) Secret {
	const hint = "make one with: echo whsec_$(openssl rand -base64 32)"
	text := v.Text()
	if text == "" {
		return ""
	}
	n := len(text)
	switch {
	case strings.HasPrefix(text, "whpk_"):
		v.Errorf("write the private key, whsk_...", "whpk_ is a public key, which cannot sign")
		return ""
	case strings.HasPrefix(text, "whsk_"):
		return decodeSigningKey(v, text)
	}
	if encoded, ok := strings.CutPrefix(text, "whsec_"); ok {
		raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
		if err != nil {
			v.Errorf(hint, "what follows whsec_ in the secret is not base64")
			return ""
		}
		n = len(raw)
	}
	if n < minSecret {
		v.Errorf(hint, "the secret has %d bytes: it needs %d at least", n, minSecret)
	}
	return Secret(text)
}

// decodeSigningKey reads an ed25519 key: its seed of 32 bytes, or the seed and
// the public key.
func decodeSigningKey(v value, text string) Secret {
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimPrefix(text, "whsk_"), "="))
	if err != nil || len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize {
		v.Errorf("it is base64 of the 32 or 64 bytes of an ed25519 key", "what follows whsk_ in the secret is not a signing key")
		return ""
	}
	return Secret(text)
}
