package strictyaml_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/strictyaml"
)

type sample struct {
	Name     string
	Count    int
	On       bool
	Wait     time.Duration
	Size     int64
	Rate     float64
	Range    netip.Prefix
	Kind     string
	List     []string
	Children []string
}

func decode(src string, env map[string]string) (sample, string) {
	d := strictyaml.Parse("a.yaml", []byte(src), func(k string) (string, bool) { v, ok := env[k]; return v, ok })
	var s sample
	type value = strictyaml.Value
	d.Root().Map(
		strictyaml.Required("name", func(v value) { s.Name = v.Text() }),
		strictyaml.Optional("count", func(v value) { s.Count = v.Int(1, 1000) }),
		strictyaml.Optional("on", func(v value) { s.On = v.Bool() }),
		strictyaml.Optional("wait", func(v value) { s.Wait = v.Duration(time.Second, 48*time.Hour) }),
		strictyaml.Optional("size", func(v value) { s.Size = v.Bytes(1, 1<<20) }),
		strictyaml.Optional("rate", func(v value) { s.Rate = v.Rate() }),
		strictyaml.Optional("range", func(v value) { s.Range = v.Prefix() }),
		strictyaml.Optional("kind", func(v value) { s.Kind = v.Choice("standard", "bare") }),
		strictyaml.Optional("list", func(v value) { s.List = v.Texts() }),
		strictyaml.Optional("children", func(v value) {
			for _, e := range v.Entries() {
				s.Children = append(s.Children, e.Name+"="+e.Value.Text())
			}
		}),
		strictyaml.Refused("lookup", `"lookup" comes with a later version`, "remove it"),
	)
	message := ""
	if err := d.Errors().Err(); err != nil {
		message = err.Error()
	}
	return s, message
}

func TestValues(t *testing.T) {
	t.Parallel()
	src := `
name: $5 ${USER}-${EMPTY:-x}${NONE:-y}$${Z}
count: 16
on: true
wait: 1d2h30m
size: 64KiB
rate: 600/m
range: 10.0.0.0/8
kind: bare
list: [1, 0777, yes, "a b"]
children:
  <<: &base {a: 1, b: 2}
  b: 3
`
	got, message := decode(src, map[string]string{"USER": "ana", "EMPTY": ""})
	if message != "" {
		t.Fatal(message)
	}
	want := sample{
		Name: "$5 ana-xy${Z}", Count: 16, On: true, Wait: 26*time.Hour + 30*time.Minute, Size: 65536, Rate: 10,
		Range: netip.MustParsePrefix("10.0.0.0/8"), Kind: "bare", List: []string{"1", "0777", "yes", "a b"},
		Children: []string{"b=3", "a=1"},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Fatal(diff)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, src, want string }{
		{"all at once", "nmae: x\ncount: 0\non: yes\nwait: 30\nwait: 3s\n", `a.yaml:1:1: unknown key "nmae"; did you mean "name"?
a.yaml:1:1: the key "name" is missing
a.yaml:2:8: 0 is out of range: it must be from 1 to 1000
a.yaml:3:5: expected true or false, found "yes"; write true or false
a.yaml:4:7: "30" is not a duration; write a number with its unit, such as 500ms, 30s, 10m, 2h or 1d
a.yaml:5:1: the key "wait" is given twice, first on line 4`},
		{"far key", "name: x\nzzzzzz: 1\n", `a.yaml:2:1: unknown key "zzzzzz"; the keys here are name, count, on, wait, size, rate, range, kind, list, children`},
		{"refused", "name: x\nlookup: {}\n", `a.yaml:2:1: "lookup" comes with a later version; remove it`},
		{"octal", "name: x\ncount: 010\n", `a.yaml:2:8: the number 010 has leading zeros, which YAML reads as octal; write 10`},
		{"not a number", "name: x\ncount: 1.5\n", `a.yaml:2:8: expected a whole number from 1 to 1000, found "1.5"`},
		{"empty", "name:\ncount: ''\n", `a.yaml:1:1: "name" is empty; give it a value or remove the key
a.yaml:2:8: the value is empty; give it a value or remove the key`},
		{"kinds", "name: [a]\nlist: {a: 1}\nchildren: 3\n", `a.yaml:1:7: expected a single value, found a list
a.yaml:2:7: expected a single value, found a mapping
a.yaml:3:11: expected a mapping, found a single value`},
		{"environment", "name: ${A}/${B:-b}/${C}\nkind: ${1}\nlist: [\"${\"]\n", `a.yaml:1:7: the environment variable A is not set; set it, or write ${A:-default}
a.yaml:1:20: the environment variable C is not set; set it, or write ${C:-default}
a.yaml:2:7: not the name of an environment variable; write ${NAME} or ${NAME:-default}; write $${ for a literal ${
a.yaml:3:9: a ${ without its }; write $${ for a literal ${`},
		{"scalars", "name: x\nwait: 100ms\nsize: 3 TB\nrate: 50\nrange: 10.0.0.1/8\nkind: standart\n", `a.yaml:2:7: 100ms is out of range: it must be from 1s to 2d
a.yaml:3:7: "3 TB" is not a size; write a number with its unit, such as 64KiB, 10MB or 1GiB
a.yaml:4:7: "50" is not a rate; write such as 50/s, 600/m or 1000/h
a.yaml:5:8: the range 10.0.0.1/8 has bits set behind its length; write 10.0.0.0/8, or the address alone
a.yaml:6:7: unknown value "standart"; did you mean "standard"?`},
		{"tabs", "name: x\n\tcount: 1\n", `a.yaml:2:1: read YAML: found a tab character that violates indentation while scanning a plain scalar; indent with spaces, not with tabs`},
		{"colon", "name: a: b\n", `a.yaml:1:8: read YAML: mapping values are not allowed in this context; quote a value that has a colon and a blank in it, or indent the line as its neighbours are`},
		{"quoted start", "name: \"X\" || 'a'\n", "a.yaml:1:12: read YAML: did not find expected comment or line break while scanning a block scalar; a value that begins with a quote ends with it: write such an expression in a block (key: >- and the expression on the next line)"},
		{"quoted start 2", "name: \"X\" = 'a'\n", "a.yaml:1:11: read YAML: did not find expected key while parsing a block mapping; a value that begins with a quote ends with it: write such an expression in a block (key: >- and the expression on the next line)"},
		{"open bracket", "list: [1\nname: 2\n", "a.yaml:1:7: read YAML: did not find expected ',' or ']' while parsing a flow sequence; write ] where this ends"},
		{"open quote", "name: 'a\ncount: 1\n", "a.yaml:1:7: read YAML: found unexpected end of stream while scanning a quoted scalar; end the text with the quote that it begins with; inside of '...' a ' is written ''"},
		{"comma in a value", "{name: f(a, b) = 1}\n", `a.yaml:1:13: this is not a key; between { and } a comma ends a value; if it is part of the value before, quote that`},
		{"two documents", "name: x\n---\nname: y\n", "a.yaml:2:1: the file holds a second document (---); use one file for each"},
		{"cycle", "name: x\nlist: &a [1, *a]\n", "a.yaml:2:14: the alias *a contains itself"},
		{"latin1", "name: x\n# \xe7\n", "a.yaml:2:1: the text is not UTF-8; save the file as UTF-8"},
		{"unknown anchor", "name: *x\n", "a.yaml:1:7: read YAML: unknown anchor; quote a value that begins with *"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, got := decode(c.src, nil)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAliasesAreBounded(t *testing.T) {
	t.Parallel()
	src := "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
	for _, pair := range []string{"ba", "cb", "dc", "ed", "fe"} {
		src += pair[:1] + ": &" + pair[:1] + " ["
		for range 10 {
			src += "*" + pair[1:] + ","
		}
		src += "]\n"
	}
	d := strictyaml.Parse("bomb.yaml", []byte(src), nil)
	want := "bomb.yaml: the file has more than 200000 values once its aliases are followed; use fewer aliases"
	if got := d.Errors().Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestClosest(t *testing.T) {
	t.Parallel()
	candidates := []string{"situacao", "status", "empresa_id", "id", "dt_liquidacao"}
	for name, want := range map[string]string{
		"situaçao": "situacao", "sitaucao": "situacao", "STATUS": "status", "empresaid": "empresa_id", "ID": "id",
		"di": "id", "dt_liquidaco": "dt_liquidacao", "valor": "", "": "", "empresa": "empresa_id", "dt": "", "s": "",
	} {
		if got := strictyaml.Closest(name, candidates); got != want {
			t.Errorf("Closest(%q) = %q, want %q", name, got, want)
		}
	}
}

// What a variable was replaced by is not shown, and the words of a message are.
func TestVariablesAreConcealed(t *testing.T) {
	t.Parallel()
	const marker, word, number = "s3cr3t-\"marker\"", "gancho", "123456789"
	env := map[string]string{"MARKER": marker, "SLOT": word, "NUMBER": number}
	doc := strictyaml.Parse("a.yaml", []byte("marker: x-${MARKER}\nslot: ${SLOT}\nnumber: ${NUMBER}\n"), func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
	var marked, slot, n string
	doc.Root().Map(
		strictyaml.Required("marker", func(v strictyaml.Value) { marked = v.Text() }),
		strictyaml.Required("slot", func(v strictyaml.Value) { slot = v.Text() }),
		strictyaml.Required("number", func(v strictyaml.Value) { n = v.Text(); v.Int(1, 2) }),
	)
	place := doc.Root().Entries()[0].Value
	place.Errorf("run gancho check; did you mean \""+slot+"\"? write "+n, "gancho does not know %q, %v, %s", marked, errors.New("slot "+slot), []string{n})
	later := place.MistakeHere("run gancho check, and write "+marked, "gancho found %q and %d", slot, 123456789)
	got := doc.Errors().Error() + "\n" + later.Error()
	want := `a.yaml:3:9: ${NUMBER} is out of range: it must be from 1 to 2
a.yaml:1:9: gancho does not know "x-${MARKER}", slot ${SLOT}, [${NUMBER}]; run gancho check; did you mean "${SLOT}"? write ${NUMBER}
a.yaml:1:9: gancho found "${SLOT}" and ${NUMBER}; run gancho check, and write x-${MARKER}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
