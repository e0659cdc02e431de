package state_test

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"gancho/cdc"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// rowChange is the text of a change of a row with ten columns, about as it is kept.
func rowChange(tb testing.TB) []byte {
	tb.Helper()
	c := cdc.Change{Relation: &cdc.Relation{OID: 16384, Schema: "public", Name: "pedidos"}}
	for i := range 10 {
		c.Relation.Columns = append(c.Relation.Columns, cdc.Column{Name: fmt.Sprintf("coluna_%d", i)})
		c.New = append(c.New, cdc.Datum{State: cdc.Present, Text: []byte(fmt.Sprintf("valor %d", i*i*7919))})
	}
	text, err := json.Marshal(&c)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// TestQuickDeflated: everybody reads what it writes, and it is not much longer than what compress/flate writes.
func TestQuickDeflated(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	texts := [][]byte{nil, []byte("a"), []byte("abcd"), bytes.Repeat([]byte("a"), 258), bytes.Repeat([]byte("ab"), 2048), bytes.Repeat([]byte{255}, 259), rowChange(t)}
	for range 2000 {
		text := make([]byte, random.IntN(state.QuickBytes+1))
		letters := 1 + random.IntN(256)
		for i := 0; i < len(text); i++ {
			switch at := random.IntN(i + 1); {
			case i > 300 && random.IntN(50) == 0: // at least one byte
				i += copy(text[i:], text[random.IntN(i-300):][:1+random.IntN(300)]) - 1
			case random.IntN(3) > 0:
				text[i] = text[at]
			default:
				text[i] = byte(random.IntN(letters))
			}
		}
		texts = append(texts, text)
	}
	for _, text := range texts {
		small := state.QuickDeflated(text)
		got, err := io.ReadAll(flate.NewReader(bytes.NewReader(small)))
		if err != nil || !bytes.Equal(got, text) {
			t.Fatalf("seed %d: %d bytes came back as %d: %v", seed, len(text), len(got), err)
		}
		if len(small) > len(text)*9/8+3 {
			t.Fatalf("seed %d: %d bytes became %d", seed, len(text), len(small))
		}
	}
	text := rowChange(t)
	var other bytes.Buffer
	w, _ := flate.NewWriter(&other, flate.BestSpeed)
	if _, err := w.Write(text); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	if small := state.QuickDeflated(text); len(small) > other.Len()*3/2 {
		t.Errorf("%d bytes of a change became %d, and by compress/flate %d", len(text), len(small), other.Len())
	} else {
		t.Logf("%d bytes of a change became %d, and by compress/flate %d", len(text), len(small), other.Len())
	}
}

func BenchmarkDeflated(b *testing.B) {
	text := rowChange(b)
	b.Run("quick", func(b *testing.B) {
		for b.Loop() {
			state.QuickDeflated(text)
		}
	})
	b.Run("flate", func(b *testing.B) {
		w, _ := flate.NewWriter(io.Discard, flate.BestSpeed)
		for b.Loop() {
			w.Reset(io.Discard)
			if _, err := w.Write(text); err != nil || w.Close() != nil {
				b.Fatal(err)
			}
		}
	})
}
