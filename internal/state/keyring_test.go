package state_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gancho/internal/state"
)

// TestWeakKeys: what a person would write is told; what is made at random is not.
func TestWeakKeys(t *testing.T) {
	t.Parallel()
	rising := make([]byte, 32)
	for i := range rising {
		rising[i] = byte(7 * i)
	}
	random, err := state.GenerateKey("good")
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{random}
	for name, key := range map[string][]byte{"zero": make([]byte, 32), "ones": bytes.Repeat([]byte{255}, 32), "rising": rising, "text": []byte("0123456789abcdef0123456789abcdef")} {
		keys = append(keys, name+":"+base64.StdEncoding.EncodeToString(key))
	}
	keyring, err := state.ParseKeys(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	if weak := keyring.Weak(); len(weak) != 4 || strings.Contains(strings.Join(weak, " "), "good") {
		t.Errorf("weak are %q", weak)
	}
}

// TestWrongKeysAreNotRepeated: no message holds a part of what was given.
func TestWrongKeysAreNotRepeated(t *testing.T) {
	t.Parallel()
	const marker = "Xm4rkerX7q2w9e5r1t3y"
	good := strings.Repeat("A", 43)
	for _, form := range []string{"M", "M:M", "M:", ":M", "a:M", "M,M", "a:M,b:M", "M:x,M:y", "M M", "a:" + good + ",M:M", "M:" + good + ",M:" + good, "a=M", "{M}", "a:M=="} {
		text := strings.ReplaceAll(form, "M", marker)
		if _, err := state.ParseKeys(text); err == nil || strings.Contains(err.Error(), marker) {
			t.Errorf("%s: %v", form, err)
		}
	}
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	for _, c := range []struct {
		text string
		ids  []string
		err  string
	}{
		{key, []string{"1"}, ""},
		{strings.TrimRight(key, "="), []string{"1"}, ""},
		{"2026-a:" + key, []string{"2026-a"}, ""},
		{" b:" + key + " ,\n a:" + key + "\n", []string{"b", "a"}, ""},
		{"", nil, "0 bytes"},
		{"a:" + key[:20], nil, `key 1 has 15 bytes, 32 are needed`},
		{"a:" + key + "AAAA", nil, "is not base64"},
		{"a:não-é-base64", nil, "is not base64"},
		{"a:" + key + ",a:" + key, nil, `key 2 has the id of one before it`},
		{key + "," + key, nil, "key 1 of 2 has no id"},
		{"a:" + key + ",", nil, "key 2 of 2 has no id"},
		{":" + key, nil, "1 to 32"},
		{"com espaço:" + key, nil, "1 to 32"},
		{strings.Repeat("x", 33) + ":" + key, nil, "1 to 32"},
	} {
		k, err := state.ParseKeys(c.text)
		switch {
		case c.err == "" && err != nil:
			t.Errorf("%q: %v", c.text, err)
		case c.err == "":
			same(t, c.text, c.ids, k.IDs())
		case err == nil || !strings.Contains(err.Error(), c.err):
			t.Errorf("%q: %v, want %q", c.text, err, c.err)
		case strings.Contains(err.Error(), key[:20]):
			t.Errorf("%q: the error shows the key: %v", c.text, err)
		}
	}
}

func TestGenerateKey(t *testing.T) {
	t.Parallel()
	a, b := must[string](t)(state.GenerateKey("x")), must[string](t)(state.GenerateKey("y"))
	k, err := state.ParseKeys(a + "," + b)
	check(t, err)
	same(t, "ids", []string{"x", "y"}, k.IDs())
	if a[2:] == b[2:] {
		t.Error("two keys are the same")
	}
	if _, err := state.GenerateKey("a:b"); err == nil {
		t.Error("an id with a colon was accepted")
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if text := fmt.Sprintf(format, k); text != "keys x, y" {
			t.Errorf("%s prints %q", format, text)
		}
	}
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	plain := []byte(`{"url":"https://crm.example.com/?token=segredo"}`)
	old, both, other := keys(t, "a"), keys(t, "b", "a"), keys(t, "c")
	sealed := old.Seal("endpoint:1:settings", plain)
	if bytes.Contains(sealed, []byte("segredo")) {
		t.Fatal("it is not encrypted")
	}
	if bytes.Equal(sealed, old.Seal("endpoint:1:settings", plain)) {
		t.Error("sealing twice gave the same: the nonce is not random")
	}
	same(t, "with a newer key before it", string(plain), string(must[[]byte](t)(both.Unseal("endpoint:1:settings", "it", sealed))))

	var lost *state.KeyError
	refused := func(name string, k *state.Keyring, place string, sealed []byte, id string, known bool, hint string) {
		t.Helper()
		_, err := k.Unseal(place, "the settings", sealed)
		if !errors.As(err, &lost) || lost.ID != id || lost.Known != known || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused("a key that is lost", other, "endpoint:1:settings", sealed, "a", false, `the key "a", which state.key does not have`)
	refused("another endpoint's", old, "endpoint:2:settings", sealed, "a", true, "state.key")
	impostor, err := state.ParseKeys("a:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32)))
	check(t, err)
	refused("another key of this id", impostor, "endpoint:1:settings", sealed, "a", true, `the key "a" of state.key is not the one`)
	for i := range sealed {
		broken := bytes.Clone(sealed)
		broken[i] ^= 0x80
		if got, err := old.Unseal("endpoint:1:settings", "it", broken); !errors.As(err, &lost) {
			t.Errorf("with byte %d changed it opens as %q, %v", i, got, err)
		}
		if got, err := old.Unseal("endpoint:1:settings", "it", sealed[:i]); !errors.As(err, &lost) {
			t.Errorf("its first %d bytes open as %q, %v", i, got, err)
		}
	}
}
