package mapping_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping"
	"gancho/mapping/expr"
	"gancho/migrations"
)

const rulesPage = "../docs/rules.md"

func legacyDatabase(t *testing.T) *pgx.Conn {
	t.Helper()
	schema, _, identity := migrations.Legacy()
	conn, err := pgx.Connect(context.Background(), pg.Database(t, "", schema, identity))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(rulesPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func documented() mapping.Options {
	return mapping.Options{
		Deny:    []string{"clientes.foto", "clientes.biometria"},
		Secrets: map[string][]byte{"cpf": []byte("0123456789abcdef")},
	}
}

// Every example of the page fits the legacy schema.
func TestDocumentedRulesBind(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	conn := legacyDatabase(t)
	blocks := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(page(t), -1)
	bound := 0
	for i, block := range blocks {
		if !strings.HasPrefix(block[1], "rules:\n") {
			if !strings.HasPrefix(block[1], "privacy:\n") && !strings.HasPrefix(block[1], "tests:\n") { // those are run in ruletest
				t.Errorf("block %d is neither rules nor configuration:\n%s", i, block[1])
			}
			continue
		}
		bound++
		if _, err := parse(t, documented(), block[1]).Bind(context.Background(), conn); err != nil {
			t.Errorf("%v\n%s", err, block[1])
		}
	}
	if bound < 10 {
		t.Errorf("the page has %d examples of rules", bound)
	}
}

// condition binds a rule with the condition and returns the error.
func condition(t *testing.T, conn *pgx.Conn, when string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	text := fmt.Sprintf("rules:\n  - event: a\n    table: clientes\n    on: insert\n    columns: [id]\n    when: >-\n      %s\n", when)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := documented()
	o.Files, o.Evaluate = []string{file}, mapping.EvaluateLocal
	rules, err := mapping.Parse(o)
	if err == nil {
		_, err = rules.Bind(context.Background(), conn)
	}
	return err
}

// What the page says is refused is refused, with a hint.
func TestDocumentedRefusals(t *testing.T) {
	t.Parallel()
	conn := legacyDatabase(t)
	_, section, _ := strings.Cut(page(t), "### What is refused, and why")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1)
	for _, row := range rows {
		if err := condition(t, conn, row[1]); err == nil || !strings.Contains(err.Error(), ";") {
			t.Errorf("%s: %v; want a refusal with a hint", row[1], err)
		}
	}
	if len(rows) < 10 {
		t.Errorf("the page has %d refusals", len(rows))
	}
}

// The page lists the functions that there are, and no others.
func TestDocumentedFunctions(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"trim": true, "current_date": true, "current_timestamp": true, "localtimestamp": true}
	for _, name := range expr.FunctionNames() {
		known[name] = true
	}
	_, section, _ := strings.Cut(page(t), "* **Of a change**")
	section, _, _ = strings.Cut(section, "\n\n")
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z0-9_]+)(\\([^`]*)?`").FindAllStringSubmatch(section, -1) {
		shown[m[1]] = true
		if !known[m[1]] {
			t.Errorf("%s is on the page and is no function", m[1])
		}
	}
	for name := range known {
		if !shown[name] {
			t.Errorf("%s is not on the page", name)
		}
	}
}

// The table of masks is what the functions give.
func TestDocumentedMasks(t *testing.T) {
	t.Parallel()
	conn := legacyDatabase(t)
	rows := regexp.MustCompile("(?m)^\\| `(mask_[a-z]+|last4)\\(x\\)` \\|(.*)\\|(.*)\\|$").FindAllStringSubmatch(page(t), -1)
	if len(rows) != 5 {
		t.Fatalf("the page has %d masks", len(rows))
	}
	code := regexp.MustCompile("`([^`]+)`")
	for _, row := range rows {
		inputs, outputs := code.FindAllStringSubmatch(row[2], -1), code.FindAllStringSubmatch(row[3], -1)
		for i, in := range inputs {
			out := outputs[min(i, len(outputs)-1)][1]
			rs, err := parse(t, documented(), fmt.Sprintf("rules:\n  - {event: a, table: clientes, on: insert, key: id, data: {x: \"%s('%s')\"}}\n", row[1], in[1])).Bind(context.Background(), conn)
			if err != nil {
				t.Fatal(err)
			}
			clientes := relation(t, conn, "public", "clientes")
			events := run(t, mapping.NewMapper(rs, nil), change(clientes, cdc.Insert, nil, values{"id": "1"}))
			if len(events) != 1 || events[0].Data != `{"x":"`+out+`"}` {
				t.Errorf("%s(%q) gives %v, the page says %q", row[1], in[1], events, out)
			}
		}
	}
}
