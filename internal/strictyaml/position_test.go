package strictyaml_test

import (
	"fmt"
	"strings"
	"testing"

	"gancho/internal/strictyaml"
)

// Every character X of a value must be found at the place where the file has
// the X; the values hold only one.
func TestPosition(t *testing.T) {
	t.Parallel()
	sources := []string{
		"k: abc X def\n",
		"k: Xabc\n",
		"k: abcX\n",
		"ção: é ã X\n",
		"k:    new.a = 'it''s' and X\n",
		"k: 'it''s ''quoted'' X end'\n",
		"k: \"a \\\"quoted\\\" \\u00e9 \\x41 \\t X end\"\n",
		"k: \"folded\n   over \\\n   lines X\"\n",
		"k: 'folded\n\n\n  over X lines'\n",
		"k: plain over\n  two\n\n  lines X end\n",
		"k: |\n  first\n  second X\n  third\n",
		"k: |2-\n    indented\n   X\n",
		"k: |\n\n  after a blank line\n    deeper X\n",
		"k: >- # a comment\n  folded\n  text X here\n",
		"k: >\n  folded\n\n    kept X\n  end\n",
		"k: &anchor abc X\n",
		"k: !!str &anchor 'abc X'\n",
		"k: &anchor |\n  abc\n  X\n",
		"k: {a: 1, b: [x, 'y X']}\n",
		"k: [\"\", '', a  X]\n",
		"k: one\r\n  two X\r\n",
		"- - k: a\n      X\n",
	}
	for _, src := range sources {
		t.Run(fmt.Sprintf("%q", src), func(t *testing.T) {
			t.Parallel()
			d := strictyaml.Parse("f.yaml", []byte(src), nil)
			if err := d.Errors().Err(); err != nil {
				t.Fatal(err)
			}
			found := false
			scalars(d.Root(), func(v strictyaml.Value) {
				text := v.Raw()
				offset := strings.IndexByte(text, 'X')
				if offset < 0 {
					return
				}
				found = true
				line, col := v.Position(offset)
				if got := at(src, line, col); got != 'X' {
					t.Errorf("value %q: position %d:%d is %q, want X", text, line, col, got)
				}
			})
			if !found {
				t.Fatal("no X in the document's values")
			}
		})
	}
}

// scalars calls f with every scalar value below v that is not empty.
func scalars(v strictyaml.Value, f func(strictyaml.Value)) {
	switch {
	case v.IsMap():
		for _, e := range v.Entries() {
			scalars(e.Value, f)
		}
	case v.IsList():
		for _, item := range v.List() {
			scalars(item, f)
		}
	case v.IsScalar():
		f(v)
	}
}

func at(src string, line, col int) rune {
	lines := strings.Split(src, "\n")
	if line < 1 || line > len(lines) {
		return 0
	}
	runes := []rune(lines[line-1])
	if col < 1 || col > len(runes) {
		return 0
	}
	return runes[col-1]
}

func FuzzPosition(f *testing.F) {
	for _, s := range []string{"k: abc", "k: 'a''b'", "k: \"a\\u00e9\\\n  b\"", "k: |2-\n    x\n", "k: >\n a\n\n b\n", "a: &x 1\nb: *x\n"} {
		f.Add([]byte(s), 2)
	}
	f.Fuzz(func(t *testing.T, src []byte, offset int) {
		d := strictyaml.Parse("f", src, func(string) (string, bool) { return "v", true })
		if len(d.Errors()) > 0 {
			return
		}
		lines := len(src) + 2
		scalars(d.Root(), func(v strictyaml.Value) {
			_ = v.Text()
			if line, col := v.Position(max(offset, 0)); line < 1 || line > lines || col < 1 {
				t.Errorf("position %d:%d outside of %d lines", line, col, lines)
			}
		})
	})
}
