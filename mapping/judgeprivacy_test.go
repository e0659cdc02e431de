package mapping_test

import (
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/mapping"
)

// TestJudgePrivacy: of what conditions name, nothing is shown that events hide, nor members
// of values that are personal by their names.
func TestJudgePrivacy(t *testing.T) {
	t.Parallel()
	const rules = `
rules:
  - event: gravado
    table: fichas
    on: insert
    when: >-
      new.doc is not null and dados ->> 'vip' = 'true' and notas is not null and (new.p).cpf > '' and lista is not null and partes is not null and h is not null and nfe is not null and html is not null and
      textos is not null and nomes is not null and xmls is not null and docs is not null and pares is not null and ns is not null and
      c.doc is not null and c.nome is not null and c.dados is not null and c.pessoa is not null and c.outro is not null
    lookup: {c: "select doc, nome, dados, dados as pessoa, outro from donos where id = new.dono"}
    data: {id: id, doc: mask_cpf(doc), fim: "hmac(c.outro, 'chave')", nome: "c.nome || hmac(c.nome, 'chave')"}
`
	l := newLab(t, pg, mapping.Options{}, "rules: [{event: e, table: contratos, on: insert, columns: [id]}]", "create extension hstore", "create type pessoa as (nome text, cpf text)", "create domain documento as text", "create type par as (a text, b text[])",
		"create table donos (id int primary key, doc text, nome text, dados jsonb, outro text)",
		"create table fichas (id int primary key, dono int, doc text, dados jsonb, notas text, p pessoa, lista jsonb[], partes pessoa[], h hstore, nfe text, html text, textos text[], nomes documento[], xmls xml[], docs varchar(60)[][], pares par[], ns int[])",
		`insert into donos values (1, '12345678909', 'Ana', '{"cpf": "12345678909", "b": [1, {"senha": 2}]}', 'segredo')`,
		`insert into fichas values (1, 1, '12345678909', '{"cpf": "12345678909", "vip": true}', ' {"cpf": "12345678909"}', row('Ana', '12345678909'), array['{"cpf": "12345678909"}'::jsonb],
			array[row('Ana', '12345678909')::pessoa], 'cpf=>12345678909, uf=>PR', '<nfe><dest cpf="12345678909"/></nfe>', '<b>oi</b>',
			array['{"cpf": "12345678909"}', 'oi', null], array['[{"cpf": "12345678909"}]'], array['<d cpf="12345678909"/>'::xml], array[array['{"cpf": "12345678909"}']], array[row('{"cpf": "12345678909"}', array['<cpf>12345678909</cpf>'])::par], array[1, 2])`)
	rs := bind(t, l.conn, mapping.Options{Secrets: map[string][]byte{"chave": []byte("0123456789abcdef")}}, rules)
	hide := func(name string) bool { return name == "cpf" || name == "senha" }
	j, err := rs.Judge(t.Context(), l.source, cdc.Name{Schema: "public", Name: "fichas"}, "1", hide)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, c := range j.Rules[0].Conjuncts {
		if c.Result != mapping.JudgedTrue {
			t.Errorf("%s is %s: %s", c.Text, c.Result, c.Reason)
		}
		for _, v := range c.Values {
			text := "***"
			if !v.Hidden && v.Value != nil {
				text = *v.Value
			}
			if got = append(got, v.Name+" "+text); strings.Contains(text, "12345678909") {
				t.Errorf("%s shows a document: %s", v.Name, text)
			}
		}
	}
	diff(t, "values", got, []string{
		"doc ***", `dados {"cpf":"***","vip":true}`, `notas {"cpf":"***"}`, `p {"nome":"Ana","cpf":"***"}`, `lista [{"cpf":"***"}]`, `partes [{"nome":"Ana","cpf":"***"}]`, `h {"uf":"PR","cpf":"***"}`, "nfe ***", "html <b>oi</b>",
		`textos ["{\"cpf\":\"***\"}","oi",null]`, `nomes ["[{\"cpf\":\"***\"}]"]`, `xmls ["***"]`, `docs [["{\"cpf\":\"***\"}"]]`, `pares [{"a":"{\"cpf\":\"***\"}","b":["***"]}]`, "ns [1,2]",
		"c.doc ***", "c.nome Ana", `c.dados {"b":[1,{"senha":"***"}],"cpf":"***"}`, "c.pessoa ***", "c.outro ***",
	})
}
