package strictyaml_test

import (
	"strings"
	"testing"

	"gancho/internal/strictyaml"
)

// TestCommasInSQL: a comma of an expression between brackets of YAML is one mistake, whose
// hint is the value to write; with it the document is in order.
func TestCommasInSQL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ src, value, hint string }{
		{"{when: id in (1, 2)}", "id in (1, 2)", `"id in (1, 2)"`},
		{"{when: id in (1, 2, 3), on: insert}", "id in (1, 2, 3)", `"id in (1, 2, 3)"`},
		{"{when: coalesce(nome, 'a') = 'b', on: x}", "", `"coalesce(nome, 'a') = 'b'"`},
		{"{data: {x: coalesce(nome, cpf::text), y: id}}", "coalesce(nome, cpf::text)", `"coalesce(nome, cpf::text)"`},
		{"{data: {x: f(g(a, b), c)}}", "f(g(a, b), c)", `"f(g(a, b), c)"`},
		{"{data: [coalesce(nome, 'a')]}", "", `"coalesce(nome, 'a')"`},
		{"{data: [f(a, b), c]}", "f(a, b)", `"f(a, b)"`},
		{"{lookup: {p: select nome, id from pes where id = new.id}}", "select nome, id from pes where id = new.id", `"select nome, id from pes where id = new.id"`},
		{"{when: nome = 'a, b'}", "nome = 'a, b'", `"nome = 'a, b'"`},
		{`{when: f("A", 'b') = 1}`, "", `'f("A", ''b'') = 1'`},
		{`{when: f(a, "B")}`, `f(a, "B")`, `'f(a, "B")'`},
		{"{a: 1, when: é(ç, õ)}", "é(ç, õ)", `"é(ç, õ)"`},
	} {
		for _, src := range []string{c.src, "rules:\n  - " + c.src, "- event: x\n  of: " + c.src} {
			errs := strictyaml.ParseSQL("r.yaml", []byte(src+"\n")).Errors()
			if len(errs) != 1 || errs[0].Hint != "write it in quotes: "+c.hint {
				t.Errorf("%s: %v, want %s", src, errs, c.hint)
				continue
			}
			line := strings.Split(src, "\n")[errs[0].Line-1]
			from := string([]rune(line)[errs[0].Col-1:])
			if c.value != "" && !strings.HasPrefix(from, c.value) {
				t.Errorf("%s: the place is before %q", src, from)
			}
			value, _, _ := strings.Cut(strings.TrimPrefix(from, c.value), "\n")
			if c.value == "" {
				continue
			}
			fixed := strings.Replace(src, c.value+value, c.hint+value, 1)
			if errs := strictyaml.ParseSQL("r.yaml", []byte(fixed+"\n")).Errors(); len(errs) > 0 {
				t.Errorf("%s, after the fix: %v", fixed, errs)
			}
		}
	}
	for _, src := range []string{
		"{columns: [id, nome], on: [insert, update]}", "{a: 'x(1, 2)', b: \"y(1, 2)\"}", "{title: Preço (R$), group: b}", "{a: f(x), b: 'it''s'}",
		"a: coalesce(x, 'y')\nb: id in (1, 2)\n", "{a: x, b}", "[]", "{}", "{a: 1, b: }",
		"{event: x, title: Caixa d'água, group: Copo d'água, table: t, on: insert, columns: [id]}", "{title: Caixa d'água, on_error: , group: d'água}",
		"{nome: Ana, data de nascimento: , obs: }", "{nome: Ana, data de nascimento : }", "{title: Preço (R$, group: em reais)}", "{title: d'água, x: {y: d'água}}",
	} {
		if errs := strictyaml.ParseSQL("r.yaml", []byte(src)).Errors(); len(errs) > 0 {
			t.Errorf("%s: %v", src, errs)
		}
	}
	// A document that may hold secrets does not show them.
	for _, src := range []string{"{dsn: p(segredo, x)}", "{dsn: p(segredo, 'x')}"} {
		if errs := strictyaml.Parse("r.yaml", []byte(src), nil).Errors(); strings.Contains(errs.Error(), "segredo") {
			t.Errorf("%s: %v", src, errs)
		}
	}
}
