package jsontext_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/jsontext"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for src, want := range map[string][]string{
		`{"a":1,"b":{"a":2},"c":[{"a":1},{"a":2}]}`: nil,
		`[1,[],{},"a","a",[{}]]`:                    nil,
		`"a"`:                                       nil,
		`{"a":1,"b":2,"a":3}`:                       {`/a "a" is given twice`},
		`{"a":1,"\u0061":3}`:                        {`/a "a" is given twice`},
		`{"x/y":[1,{"b":{},"c":{"d":1,"d":[]},"b":2}]}`:   {`/x~1y/1/c/d "d" is given twice`, `/x~1y/1/b "b" is given twice`},
		`{"a":["x","\u0000"]}`:                            {`/a/1 a text holds the character \u0000`},
		strings.Repeat("[", 64) + strings.Repeat("]", 64): nil,
		`{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`: {
			"/x" + strings.Repeat("/0", 63) + " objects and lists are nested more than 64 deep",
		},
	} {
		var got []string
		for _, m := range jsontext.Check([]byte(src), 10) {
			got = append(got, m.Pointer+" "+m.Message)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%.80s (-want +got):\n%s", src, diff)
		}
	}
	m := jsontext.Check([]byte(`{"a":1, "a":2}`), 10)
	if len(m) != 1 || m[0].Offset != 11 {
		t.Errorf("the place is %+v", m)
	}
	var b strings.Builder
	for range 5000 {
		fmt.Fprint(&b, `"a":1,`)
	}
	if got := jsontext.Check([]byte("{"+b.String()+`"b":2}`), 10); len(got) != 10 {
		t.Errorf("10 mistakes were asked for: %d", len(got))
	}
}
