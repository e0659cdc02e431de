package mapping_test

import (
	"context"
	"strings"
	"testing"

	"gancho/mapping"
)

// TestBindKnowsCollations: what a column's own collation decides is refused,
// because the rules would decide it otherwise.
func TestBindKnowsCollations(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	ctx := context.Background()
	if _, err := conn.Exec(ctx, `
		create collation sem_caixa (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		create table textos (id int primary key, solto text collate sem_caixa, ordenado text collate "pt-BR-x-icu", comum text)`); err != nil {
		t.Fatal(err)
	}
	for when, want := range map[string]string{
		"solto = 'ABC'":                     "nondeterministic collation sem_caixa",
		"ordenado < 'B'":                    "collation pt-BR-x-icu of column ordenado",
		"ordenado = 'B' and comum < 'B'":    "",
		`ordenado collate \"C\" < 'B'`:      "",
		`solto collate \"C\" = 'ABC'`:       "",
		`upper(comum collate \"C\") = 'B'`:  "COLLATE is supported in comparisons alone",
		"upper(ordenado) = 'B'":             "collation pt-BR-x-icu of column ordenado",
		"comum in ('a', 'b')":               "",
		"solto is not null and comum = 'a'": "",
	} {
		rules := parse(t, mapping.Options{Evaluate: mapping.EvaluateLocal}, "rules:\n  - {event: x, table: textos, on: insert, when: \""+when+"\", columns: [id, solto, ordenado]}\n")
		_, err := rules.Bind(ctx, conn)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", when, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v; want %q", when, err, want)
		}
	}
}
