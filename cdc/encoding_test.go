package cdc_test

import (
	"testing"

	"gancho/cdc"
)

// TestEncodings: every byte of a database's text becomes UTF-8 and comes back, or
// is no text at all.
func TestEncodings(t *testing.T) {
	t.Parallel()
	for encoding, invalid := range map[cdc.Encoding]int{cdc.Latin1: 0, cdc.Win1252: 5, cdc.UTF8: 128} {
		n := 0
		for b := range 256 {
			text, ok := encoding.Append(nil, []byte{byte(b)})
			if !ok {
				n++
				continue
			}
			if back := encoding.Encode(string(text)); back != string([]byte{byte(b)}) {
				t.Errorf("%s: byte %#x became %q and came back as %q", encoding, b, text, back)
			}
		}
		if n != invalid {
			t.Errorf("%s: %d bytes are no text, want %d", encoding, n, invalid)
		}
	}
	if got := cdc.Win1252.Encode("a€😀"); got != "a\x80\x1a" {
		t.Errorf("encoded as %q", got)
	}
}
