package simulate_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/internal/simulate"
)

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var all []int
	for i := range 1000 {
		all = append(all, i+1)
	}
	for _, c := range []struct {
		part float64
		of   []int
		want int
	}{{0.5, all, 500}, {0.95, all, 950}, {0.5, []int{7}, 7}, {0.95, nil, 0}, {0.5, []int{1_000_001, 1_000_001, 5}, 1_000_001}, {0.5, []int{1_000_001, 1_000_001, 1_100_000}, 1_007_616}} {
		if got := simulate.Quantile(c.part, c.of...); got != c.want {
			t.Errorf("the %v quantile of %d sizes is %d, want %d", c.part, len(c.of), got, c.want)
		}
	}
}

// TestMask: what a leaf shows and what it is called decides; what the rule masks stays.
func TestMask(t *testing.T) {
	t.Parallel()
	names := map[string][]string{
		"id": {"id"}, "doc": {"cpf"}, "cpf": {}, "telefone": {"id"}, "ficha": {"ficha"}, "pessoa.nome": {"nome"}, "pessoa.contato": {"cliente", "email"}, "lista.0": {"senha"}, "lista.1": {"nome"}, "todo": {"id", "rg"}, "xml": {"xml"},
	}
	const text = `{"id":1.50,"doc":"123","cpf":"***.1","telefone":9,"ficha":{"cpf":[1,{"a":null}],"x":true,"filhos":[{"email":"e","y":"<é>"}],"senha":null},"pessoa":{"nome":"Ana","contato":"c"},"lista":["s","n"],"todo":{"id":1},"xml":"<a><cpf>1</cpf></a>","vazio":[]}`
	const want = `{"id":1.50,"doc":"***","cpf":"***.1","telefone":"***","ficha":{"cpf":"***","x":true,"filhos":[{"email":"***","y":"<é>"}],"senha":null},"pessoa":{"nome":"Ana","contato":"***"},"lista":["***","n"],"todo":"***","xml":"***","vazio":[]}`
	if diff := cmp.Diff(want, simulate.Masked(names, text)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestChangedFields(t *testing.T) {
	t.Parallel()
	got := simulate.ChangedFields(`{"a":1,"b":{"c":1.0,"d":[{"e":1},{"e":2}]},"f":null,"g":{}}`, `{"a":1,"b":{"c":1.00,"d":[{"e":1},{"e":3}]},"g":[],"h":0}`)
	if diff := cmp.Diff([]string{"b.c", "b.d[].e", "f", "g", "h"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := simulate.ChangedFields(`{"a":1, "b":2}`, `{"b":2,"a":1}`); len(got) > 0 {
		t.Errorf("the order of keys: %q", got)
	}
}

// played is a handler that keeps what it gets.
type played struct {
	changes []cdc.Change
	txs     []cdc.Transaction
}

func (p *played) Begin(*cdc.Transaction) error { return nil }
func (p *played) Change(c *cdc.Change) error {
	kept := *c
	kept.New, kept.Old = clone(c.New), clone(c.Old)
	p.changes = append(p.changes, kept)
	return nil
}

func (p *played) Commit(tx *cdc.Transaction) error {
	p.txs = append(p.txs, *tx)
	return nil
}
func (p *played) Keepalive(cdc.LSN) error { return nil }
func (p *played) Flush() error            { return nil }
func (p *played) Reset() error            { return nil }

func clone(row []cdc.Datum) []cdc.Datum {
	if row == nil {
		return nil
	}
	out := make([]cdc.Datum, len(row))
	for i, d := range row {
		out[i] = cdc.Datum{State: d.State, Text: bytes.Clone(d.Text)}
	}
	return out
}

// recording writes a recording of every kind of change and value.
func recording(t testing.TB) (path string, tx cdc.Transaction, changes []*cdc.Change) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "a.rec")
	r, err := simulate.NewRecorder(path, simulate.Header{Version: "teste", Database: "d", SystemID: "1", Started: time.Unix(1e9, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	text := &cdc.Type{OID: 25, Schema: "pg_catalog", Name: "text", Kind: cdc.KindBase, TypeMod: -1, Delim: ','}
	list := &cdc.Type{OID: 1009, Schema: "pg_catalog", Name: "_text", Kind: cdc.KindArray, Elem: text, TypeMod: -1, Delim: ','}
	rel := &cdc.Relation{OID: 7, Schema: "public", Name: "t", ReplicaIdentity: 'f', Columns: []cdc.Column{{Name: "a", Key: true, Type: text, TypeMod: -1}, {Name: "b", Type: list, TypeMod: -1}}}
	tx = cdc.Transaction{Commit: 100, End: 120, Time: time.Unix(1e9, 123456000).UTC(), XID: 9}
	rows := [][]cdc.Datum{
		{{State: cdc.Present, Text: []byte("é\x00")}, {State: cdc.Null}}, {{State: cdc.Missing}, {State: cdc.Unchanged}}, {{State: cdc.Invalid, Text: []byte{0xff}}, {State: cdc.Present, Text: []byte{}}},
	}
	for i, op := range []cdc.Op{cdc.Insert, cdc.Update, cdc.Delete, cdc.Truncate} {
		c := &cdc.Change{Position: cdc.Position{Commit: 100, Ordinal: uint64(i)}, Tx: &tx, Op: op, Relation: rel}
		if op <= cdc.Update {
			c.New = rows[i]
		}
		if op == cdc.Update || op == cdc.Delete {
			c.Old = rows[2]
		}
		changes = append(changes, c)
	}
	if err := errors.Join(simulate.Record(r, &tx, changes...), simulate.Record(r, &tx), r.Close()); err != nil {
		t.Fatal(err)
	}
	return path, tx, changes
}

// TestRecording: what was recorded is played, to the byte; and wherever the file ends or is
// damaged, that is an error.
func TestRecording(t *testing.T) {
	t.Parallel()
	path, tx, changes := recording(t)
	r, err := simulate.OpenRecording(path)
	if err != nil {
		t.Fatal(err)
	}
	var got played
	if err := errors.Join(simulate.Play(r, &got), r.Close()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]cdc.Transaction{tx, tx}, got.txs); diff != "" || r.Database != "d" {
		t.Errorf("%s\n%+v", diff, r.Header)
	}
	for i, c := range got.changes {
		if diff := cmp.Diff(*changes[i], c); diff != "" {
			t.Errorf("change %d: -want +got\n%s", i, diff)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if _, problem := play(t, path, whole[:n]); problem == nil {
			t.Errorf("the first %d of %d bytes are a recording", n, len(whole))
		} else if wrong := new(simulate.RecordingError); !errors.As(problem, &wrong) {
			t.Errorf("%d bytes: %v", n, problem)
		}
	}
	for n := range whole {
		damaged := bytes.Clone(whole)
		damaged[n] ^= 0x10
		// Bits that gzip does not use may be others.
		if p, err := play(t, path, damaged); err == nil && !cmp.Equal(p.changes, got.changes) {
			t.Errorf("byte %d is another, and nobody sees it", n)
		}
	}
}

// play plays a file of these bytes.
func play(t testing.TB, path string, content []byte) (*played, error) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := simulate.OpenRecording(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	p := &played{}
	return p, simulate.Play(r, p)
}

// frames are those of a recording, without the compression.
func frames(t testing.TB) []byte {
	t.Helper()
	path, _, _ := recording(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(whole[len(simulate.FirstLine):]))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(zip); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// playFrames plays a recording of these frames: however wrong they are, they only fail.
func playFrames(t testing.TB, path string, frames []byte) {
	t.Helper()
	var file bytes.Buffer
	file.WriteString(simulate.FirstLine)
	zip, err := gzip.NewWriterLevel(&file, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zip.Write(frames); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = play(t, path, file.Bytes())
	if wrong := new(simulate.RecordingError); err != nil && !errors.As(err, &wrong) {
		t.Errorf("%v", err)
	}
}

// TestWrongFrames plays frames of which bytes are others, left out or there twice.
func TestWrongFrames(t *testing.T) {
	t.Parallel()
	path, whole, random := filepath.Join(t.TempDir(), "a.rec"), frames(t), rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		wrong := bytes.Clone(whole)
		for range 1 + random.IntN(3) {
			at := random.IntN(len(wrong))
			switch random.IntN(3) {
			case 0:
				wrong[at] = byte(random.Uint32())
			case 1:
				wrong = append(wrong[:at], wrong[at+1:]...)
			default:
				wrong = append(wrong[:at], append([]byte{wrong[at]}, wrong[at:]...)...)
			}
		}
		playFrames(t, path, wrong)
	}
}

func FuzzRecording(f *testing.F) {
	f.Add(frames(f))
	f.Fuzz(func(t *testing.T, frames []byte) { playFrames(t, filepath.Join(t.TempDir(), "a.rec"), frames) })
}
