package mapping_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/mapping"
)

// tagged collects the tags of events.
type tagged struct {
	recorder
	tags []string
}

func (r *tagged) Event(e *mapping.Event) error {
	r.tags = append(r.tags, string(e.Tags))
	return r.recorder.Event(e)
}

// A tag is what the payload would show; what is null or was not sent is no tag.
func TestTags(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	o := mapping.Options{Secrets: map[string][]byte{"cpf": []byte("0123456789abcdef")}}
	text := `rules:
  - event: cliente.mudou
    table: clientes
    on: update
    data: {id: id}
    tags:
      saldo: saldo
      codigo: codigo
      cpf: hmac(cpf_cnpj, 'cpf')
      obs: observacao
      extras: extras
`
	rules := parse(t, o, text)
	rs, err := rules.Bind(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	rel := relation(t, conn, "", "clientes")
	m := mapping.NewMapper(rs, nil)
	hashed, _ := rules.Tag("cpf", "12345678901")
	long := strings.Repeat("é", 200)
	for _, c := range []struct {
		name string
		with values
		want string
	}{
		{"plain", values{}, `["saldo=10.50","codigo=C1","` + hashed + `","obs=longa"]`},
		{"null", values{"saldo": nil, "cpf_cnpj": nil}, `["codigo=C1","obs=longa"]`},
		{"not sent", values{"observacao": cdc.Unchanged}, `["saldo=10.50","codigo=C1","` + hashed + `"]`},
		{"quoted", values{"observacao": "a\"b\\", "cpf_cnpj": nil, "saldo": nil}, `["codigo=C1","obs=a\"b\\"]`},
		{"long", values{"observacao": long, "cpf_cnpj": nil, "saldo": nil, "codigo": nil}, `["obs=` + long[:256] + `"]`},
		{"object", values{"extras": `{"a": 1}`, "cpf_cnpj": nil, "saldo": nil, "codigo": nil, "observacao": nil}, `["extras={\"a\": 1}"]`},
		{"none", values{"cpf_cnpj": nil, "saldo": nil, "codigo": nil, "observacao": nil}, ``},
	} {
		var r tagged
		before := client()
		if c.with["observacao"] == cdc.Unchanged {
			before = nil
		}
		if err := m.Map(change(rel, cdc.Update, before, with(client(), c.with)), &r); err != nil {
			t.Fatal(err)
		}
		if len(r.tags) != 1 || r.tags[0] != c.want {
			t.Errorf("%s: %q, not %q", c.name, r.tags, c.want)
		}
		if r.all[0].Unchanged != "" || r.all[0].Data != `{"id":7}` {
			t.Errorf("%s: the payload is %s, without %s", c.name, r.all[0].Data, r.all[0].Unchanged)
		}
	}
	for tag, want := range map[string]string{"obs=" + long: "obs=" + long[:256], "saldo=10.50": "saldo=10.50", "outra=1": ""} {
		name, value, _ := strings.Cut(tag, "=")
		if got, _ := rules.Tag(name, value); got != want {
			t.Errorf("tag %s is searched as %q", name, got)
		}
	}
	if got := strings.Join(rules.TagNames(), " "); got != "codigo cpf extras obs saldo" {
		t.Errorf("names of tags: %s", got)
	}
}

func TestWrongTags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ tags, want string }{
		{"[id]", "tags is not a mapping"},
		{"{Pedido: id}", `"Pedido" cannot be the name of a tag`},
		{"{a: id, b: id, c: id, d: id, e: id, f: id}", "the rule has 6 tags, and at most 5 are indexed"},
		{`{cpf: "coalesce(hmac(cpf_cnpj, 'cpf'), '-')"}`, "hashed in part cannot be found"},
		{`{cpf: "hmac(cpf_cnpj, 'cpf') || hmac(nome, 'cpf')"}`, "hashed in part cannot be found"},
		{"{nome: nome}", "the tag nome is not hashed here, and hashed with the secret cpf at"},
		{`{nome: "hmac(nome, 'outra')"}`, "hashed with the secret outra here"},
		{`{nome: "hmac(lower(nome), 'cpf')"}`, ""},
	} {
		file := filepath.Join(t.TempDir(), "rules.yaml")
		text := "rules:\n  - {event: a, table: clientes, on: insert, columns: [id], tags: " + c.tags + "}\n" +
			"  - event: b\n    table: clientes\n    on: insert\n    columns: [id]\n    tags:\n      nome: hmac(nome, 'cpf')\n"
		if strings.HasPrefix(c.want, "the tag nome") || strings.HasPrefix(c.want, "hashed with") { // the first is the other's
			text = "rules:\n" + text[strings.Index(text, "  - event: b"):] + text[len("rules:\n"):strings.Index(text, "  - event: b")]
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := mapping.Parse(mapping.Options{Files: []string{file}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("tags: %s: %v, not %q", c.tags, err, c.want)
		}
	}
}
