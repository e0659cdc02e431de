package strictyaml_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/strictyaml"
)

func TestJSON(t *testing.T) {
	t.Parallel()
	env := func(name string) (string, bool) { return map[string]string{"CHAVE": `a"b`}[name], name == "CHAVE" }
	for src, want := range map[string]string{
		"a: 007\nb: [true, null, {c: '${CHAVE}'}]\n": `{"a":"007","b":["true",null,{"c":"a\"b"}]}`,
		`{"a": "x\u00e9", "b": 1.50}`:                `{"a":"xé","b":"1.50"}`,
		"texto":                                      `"texto"`,
		"null":                                       `null`,
		"":                                           ``,
		"a: ${FALTA}\nb: 1\n":                        ``,
		"a:\n":                                       ``,
		"a: &x [1]\nb: *x\n":                         `{"a":["1"],"b":["1"]}`,
	} {
		d := strictyaml.Parse("x", []byte(src), env)
		if diff := cmp.Diff(want, string(d.Root().JSON())); diff != "" {
			t.Errorf("%q (-want +got):\n%s", src, diff)
		}
		if failed := want == "" && src != ""; failed != (len(d.Errors()) > 0) {
			t.Errorf("%q: errors %v", src, d.Errors())
		}
	}
}
