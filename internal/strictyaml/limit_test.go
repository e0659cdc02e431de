package strictyaml_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gancho/internal/strictyaml"
	"gancho/internal/testservers"
)

// mistaken is a document with n unknown keys and n keys that are given twice.
func mistaken(n int) string {
	var b strings.Builder
	for range 2 {
		for i := range n {
			fmt.Fprintf(&b, "k%d: x\n", i)
		}
	}
	return b.String()
}

func TestMistakesAreBounded(t *testing.T) {
	t.Parallel()
	report := func(src string) strictyaml.Errors {
		d := strictyaml.Parse("a.yaml", []byte(src), nil)
		d.Root().Map(strictyaml.Optional("name", func(v strictyaml.Value) { v.Text() }))
		var all strictyaml.Errors
		errors.As(d.Errors().Err(), &all)
		return all
	}
	few := report("a: 1\nb: 2\nc: 3\n")
	if len(few) != 3 {
		t.Errorf("three mistakes are reported as %d:\n%v", len(few), few)
	}
	many := report(mistaken(5000))
	if len(many) != strictyaml.MaxErrors+1 || !strings.Contains(many[strictyaml.MaxErrors].Message, "more mistakes") {
		t.Errorf("10,000 mistakes are reported as %d, the last is %v", len(many), many[len(many)-1])
	}
	files := append(report(mistaken(80)), report("x"+mistaken(80))...)
	if err := files.Err(); strings.Count(err.Error(), "\n") != strictyaml.MaxErrors {
		t.Errorf("the mistakes of two files are not bounded together:\n%v", err)
	}
	// A value is complete, or not, whether its mistake is recorded or only counted.
	d := strictyaml.Parse("a.yaml", []byte(mistaken(200)+"last: ''\n"), nil)
	if got := d.Root().JSON(); got != nil {
		t.Errorf("a document with mistakes is returned as %.100s", got)
	}
}

// A file may list thousands of endpoints: only what aliases repeat is bounded.
func TestLargeFilesAreRead(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const items = 60_000
	large := "common: &common [1, 2, 3]\nlist:\n" + strings.Repeat("- {a: 1, b: 2}\n", items)
	for src, mistakes := range map[string]int{large: 0, large + "again:\n" + strings.Repeat("- *common\n", items): 1} {
		if got := strictyaml.Parse("a.yaml", []byte(src), nil).Errors(); len(got) != mistakes {
			t.Errorf("a file of %d bytes: %v, want %d mistakes", len(src), got, mistakes)
		}
	}
}

// Ten times as many mistakes take ten times as long, and not a hundred times.
func TestMistakesAreLinear(t *testing.T) {
	testservers.Whole(t)
	fastest := func(n int) time.Duration {
		best := time.Hour
		for range 3 {
			src := []byte(mistaken(n))
			began := time.Now()
			d := strictyaml.Parse("a.yaml", src, nil)
			d.Root().Map(strictyaml.Optional("name", func(strictyaml.Value) {}), strictyaml.Optional("url", func(strictyaml.Value) {}))
			best = min(best, time.Since(began))
		}
		return best
	}
	few, many := fastest(2000), fastest(20_000)
	if many > 50*few {
		t.Errorf("4,000 keys take %s, 40,000 take %s", few, many)
	}
}
