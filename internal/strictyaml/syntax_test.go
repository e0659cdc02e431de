package strictyaml_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/strictyaml"
)

var update = flag.Bool("update", false, "write the golden file again")

// TestSyntax reads each of the cases of testdata/syntax.txt, which lines of === keep apart:
// every one is refused with its place and what to write instead. → stands for a tab, ␁ for
// the character with the number 1.
func TestSyntax(t *testing.T) {
	t.Parallel()
	cases, err := os.ReadFile("testdata/syntax.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for src := range strings.SplitSeq(string(cases), "===\n") {
		errs := strictyaml.Parse("a.yaml", []byte(strings.NewReplacer("→", "\t", "␁", "\x01").Replace(src)), nil).Errors()
		if len(errs) != 1 || errs[0].Line == 0 || errs[0].Hint == "" {
			t.Errorf("%q: want one message with its place and a hint: %v", src, errs)
		}
		_, _ = fmt.Fprintf(&got, "%s    %v\n", src, errs)
	}
	const golden = "testdata/syntax.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("-want +got; go test ./internal/strictyaml -update writes it again:\n%s", diff)
	}
}
