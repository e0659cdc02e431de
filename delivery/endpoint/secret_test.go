package endpoint_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"gancho/delivery/endpoint"
)

const (
	hmacSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwC5IZ6F3Yk0A="
	rawSecret  = "segredo combinado por telefone"
)

func secrets(t testing.TB, texts ...string) []endpoint.Secret {
	t.Helper()
	var list []endpoint.Secret
	for _, text := range texts {
		s, err := endpoint.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

// signingSeed is the secret key of RFC 8032, section 7.1, test 1.
const signingSeed = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="

func TestEd25519Keys(t *testing.T) {
	t.Parallel()
	s := secrets(t, signingSeed)[0]
	const public = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" // of the same test vector
	if s.Public() != public {
		t.Errorf("public key %s, want RFC 8032's %s", s.Public(), public)
	}
	long := s.Reveal()
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(long, "whsk_")); err != nil || len(raw) != ed25519.PrivateKeySize {
		t.Errorf("revealed as %d bytes, %v", len(raw), err)
	}
	if again := secrets(t, long)[0]; !again.Equal(s) {
		t.Error("what Reveal says is another key")
	}
	verifier, err := endpoint.ParseVerifier(public)
	if err != nil || verifier.Public() != public || verifier.Reveal() != public || verifier.Equal(s) {
		t.Errorf("public key read as %s, %v", verifier.Public(), err)
	}
	if again, err := endpoint.ParseVerifier(long); err != nil || !again.Equal(s) {
		t.Errorf("ParseVerifier reads a private key as another: %v", err)
	}
	if a, b := endpoint.GenerateSigningKey(), endpoint.GenerateSigningKey(); a.Equal(b) || a.Public() == b.Public() || a.Public() == "" {
		t.Error("GenerateSigningKey repeats itself")
	}
	if endpoint.GenerateSecret().Public() != "" {
		t.Error("an HMAC key has a public half")
	}
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v %x", s, s, &s, s), s.String()} {
		if strings.Contains(shown, strings.TrimPrefix(long, "whsk_")[:20]) || strings.Contains(shown, "9d61b19d") {
			t.Errorf("%s shows the key", shown)
		}
	}
	broken := []byte(long)
	broken[len(broken)-10] ^= 1
	for _, text := range []string{"whsk_", "whsk_????", "whsk_" + base64.StdEncoding.EncodeToString(make([]byte, 33)), string(broken), public} {
		if _, err := endpoint.ParseSecret(text); err == nil || len(text) > 10 && strings.Contains(err.Error(), text[5:]) {
			t.Errorf("%q: error %v; want one that does not show it", text, err)
		}
	}
	for _, text := range []string{"whpk_", "whpk_abcd", "short"} {
		if _, err := endpoint.ParseVerifier(text); err == nil {
			t.Errorf("%q is taken for a key", text)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	s := secrets(t, rawSecret)[0]
	ep := endpoint.Endpoint{Name: "crm", Secrets: []endpoint.Secret{s}}
	encoded, err := json.Marshal(map[string]any{"s": s, "e": ep})
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(encoded)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, s), fmt.Sprintf(verb, ep), fmt.Sprintf(verb, &ep), fmt.Sprintf(verb, []any{s}))
	}
	for _, text := range texts {
		for _, leak := range []string{rawSecret, s.Reveal(), "115 101 103", "7365677265646f", "0x73, 0x65"} {
			if strings.Contains(strings.ToLower(text), strings.ToLower(leak)) {
				t.Errorf("%s shows the secret", text)
			}
		}
	}
	if again := secrets(t, s.Reveal())[0]; !again.Equal(s) || s.Equal(secrets(t, hmacSecret)[0]) {
		t.Error("Reveal is not the secret, or Equal is wrong")
	}
	if a, b := endpoint.GenerateSecret(), endpoint.GenerateSecret(); a.Equal(b) || len(a.Reveal()) != len(hmacSecret) {
		t.Error("GenerateSecret repeats itself or is not 32 bytes")
	}
	for _, text := range []string{"", "senha123", "whsec_c2VuaGExMjM=", "whsec_???????????????????????"} {
		if _, err := endpoint.ParseSecret(text); err == nil || text != "" && strings.Contains(err.Error(), strings.TrimPrefix(text, "whsec_")) {
			t.Errorf("secret %q: error %v; want one that does not show it", text, err)
		}
	}
}

func TestSharedSecrets(t *testing.T) {
	t.Parallel()
	one, two, three := endpoint.GenerateSecret(), endpoint.GenerateSigningKey(), endpoint.GenerateSecret()
	list := []*endpoint.Endpoint{
		{Name: "a", Secrets: []endpoint.Secret{one, one}}, {Name: "b", Secrets: []endpoint.Secret{two}},
		{Name: "c", Secrets: []endpoint.Secret{three, one}}, {Name: "d", Secrets: []endpoint.Secret{two, two}}, {Name: "e"},
	}
	if got := fmt.Sprint(endpoint.SharedSecrets(list)); got != "[[a c] [b d]]" {
		t.Errorf("shared are %s", got)
	}
}

// TestWrittenSecrets: a secret is stored as it was written, so that the keys of signatures are
// the same after it.
func TestWrittenSecrets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, key, decoded string }{
		{"um segredo de vinte e quatro", "um segredo de vinte e quatro", ""},
		{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
		{"whsec_c2VncmVkbyBkZSB2aW50ZSBlIHF1YXRybyBieXRlcw", "whsec_c2VncmVkbyBkZSB2aW50ZSBlIHF1YXRybyBieXRlcw", "c2VncmVkbyBkZSB2aW50ZSBlIHF1YXRybyBieXRlcw=="},
		{"c2VncmVkbyBkZSB2aW50ZSBlIHF1YXRybyBieXRlcw==", "c2VncmVkbyBkZSB2aW50ZSBlIHF1YXRybyBieXRlcw==", "c2VncmVkbyBkZSB2aW50ZSBlIHF1YXRybyBieXRlcw=="},
	} {
		s := secrets(t, c.text)[0]
		stored := secrets(t, s.Written())[0]
		for _, s := range []endpoint.Secret{s, stored} {
			key, ok := s.Key(endpoint.KeyText)
			if !ok || string(key) != c.key || s.Written() != c.text {
				t.Errorf("%s: the key is %q, written %q", c.text, key, s.Written())
			}
			key, ok = s.Key(endpoint.KeyBase64)
			if got := base64.StdEncoding.EncodeToString(key); ok != (c.decoded != "") || ok && got != c.decoded {
				t.Errorf("%s: the decoded key is %s, %t", c.text, got, ok)
			}
		}
		if !s.Equal(stored) || s.IsText() != stored.IsText() {
			t.Errorf("%s is another one after it was stored", c.text)
		}
	}
}
