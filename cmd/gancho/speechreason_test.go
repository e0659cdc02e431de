package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gancho/internal/language"
)

// reasonMakers are what makes a reason in the files of a pattern: functions, with the place of the format among their arguments, and those whose
// results are one. A reason is stored: why an attempt failed, an endpoint is suspended, an event is a dead letter, a change is parked, a job failed or waits.
var reasonMakers = []struct {
	files   string
	calls   map[string]int
	results []string
	behind  string // what is written behind it
}{
	{"../../mapping/expr/*.go", map[string]int{"fail": 1}, nil, ""},
	{"../../mapping/render.go", nil, []string{"reason"}, ""},
	{"../../mapping/plan.go", map[string]int{"schemaError": 2}, nil, "; correct the rule and load it again"},
	{"../../mapping/children.go", map[string]int{"schemaError": 2}, nil, "; correct the rule and load it again"},
	{"../../mapping/identity.go", nil, []string{"missingIdentity"}, ""},
	{"../../mapping/resolve.go", nil, []string{"unread"}, ""},
	{"../../mapping/timer.go", map[string]int{"park": 4}, nil, ""},
	{"../../mapping/source.go", nil, []string{"withoutData"}, ""},
	{"../../delivery/webhook/verdict.go", nil, []string{"statusError", "bodyError", "reason"}, ""},
	{"../../delivery/webhook/proxy.go", nil, []string{"Error"}, ""},
	{"../../delivery/webhook/login.go", map[string]int{"failed": 0}, []string{"Error"}, ""},
	{"../../delivery/dispatch/outcome.go", map[string]int{"suspendLocked": 0, "splitListLocked": 3}, []string{"goneReason", "misconfiguredReason"}, ""},
	{"../../delivery/dispatch/schedule.go", nil, []string{"scheduleLocked"}, ""},
	{"../../internal/bridge/jobs.go", nil, []string{"fit", "receives"}, ""},
	{"../../internal/bridge/pace.go", nil, []string{"load", "servers"}, ""},
	{"../../internal/bridge/schedulerun.go", map[string]int{"FailRun": 3, "Errorf": 0}, nil, ""},
	{"../../internal/bridge/schedulespool.go", map[string]int{"Errorf": 0}, nil, ""},
	{"../../mapping/scheduled.go", nil, []string{"Run"}, ""},
	{"../../internal/control/schedule.go", nil, []string{"Trouble"}, ""},
	{"../../internal/control/replay.go", nil, []string{"leftOutReason"}, ""},
	{"../../internal/state/keyring.go", nil, []string{"Error"}, ""},
	{"../../internal/control/quota.go", nil, []string{"Error", "String"}, ""},
}

// reasonTexts calls found with the reasons that a file makes.
func reasonTexts(t *testing.T, path string, calls map[string]int, results []string, found func(text string, at token.Position)) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	add := func(e ast.Expr) {
		if text, literal := sample(e); literal > 2 {
			found(text, set.Position(e.Pos()))
		}
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		of := slices.Contains(results, f.Name.Name)
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ReturnStmt:
				if of && len(n.Results) > 0 {
					add(n.Results[0])
				}
			case *ast.CallExpr:
				name := ""
				switch f := n.Fun.(type) {
				case *ast.Ident:
					name = f.Name
				case *ast.SelectorExpr:
					name = f.Sel.Name
				}
				if at, ok := calls[name]; ok && len(n.Args) > at {
					add(n.Args[at])
				}
			}
			return true
		})
	}
}

// TestTranslatedReasons: each reason that is stored has its Portuguese.
func TestTranslatedReasons(t *testing.T) {
	t.Parallel()
	portuguese, total := language.Of(language.Portuguese), 0
	words := regexp.MustCompile(`[a-z]{2,}`)
	for _, m := range reasonMakers {
		paths, err := filepath.Glob(m.files)
		if err != nil {
			t.Fatal(err)
		}
		before := total
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			reasonTexts(t, path, m.calls, m.results, func(text string, at token.Position) {
				if total++; !words.MatchString(text) {
					return
				}
				if _, known := portuguese.Translated("reason", text+m.behind); !known {
					t.Errorf("%s: pt-BR.yaml has no Portuguese for: %s", at, text)
				}
			})
		}
		if total == before {
			t.Errorf("%s makes no reason: its functions have other names", m.files)
		}
	}
}

// TestReasonsAreWhole: of reasons as they are stored nothing stays English but names and what a server says.
func TestReasonsAreWhole(t *testing.T) {
	t.Parallel()
	portuguese := language.Of(language.Portuguese)
	for english, want := range map[string]string{
		"rules/a.yaml:7:11: evaluate data.desconto: division by zero (SQLSTATE 22012)":                                                                   "rules/a.yaml:7:11: avaliar data.desconto: divisão por zero (SQLSTATE 22012)",
		"post to https://crm.example.com: answered 503 Service Unavailable":                                                                              "POST em https://crm.example.com: resposta 503 Service Unavailable",
		"post to https://crm.example.com: connection refused":                                                                                            "POST em https://crm.example.com: conexão recusada",
		"misconfigured: login failed at token_url https://id.example.com: it answered 401 Unauthorized; correct the endpoint's auth, or what refuses it": "mal configurado: o login falhou na token_url https://id.example.com: ela respondeu 401 Unauthorized; corrija o auth do endpoint, ou o que o recusa",
		`rules/a.yaml:7: apply rule x: column "b" of table public.t is no longer in the stream; it may be c now; correct the rule and load it again`:     `rules/a.yaml:7: aplicar a regra x: a coluna "b" da tabela public.t não está mais no fluxo; talvez agora seja c; corrija a regra e recarregue`,
		// A mistake of a rule with its hint, in the words of check.
		`rules/a.yaml:3: apply rule x: table public.t does not fit the rule any more: "A" is not a label of enum st; did you mean "N"?`: `rules/a.yaml:3: aplicar a regra x: a tabela public.t não serve mais à regra: "A" não é um rótulo do enum st; quis dizer "N"?`,
		`rules/a.yaml:3: apply rule x: table public.t did not fit the rule when the change was made: column "b" is not in table public.t; the table was altered since, and no rule fits both: set source.on_schema_change: park until the bridge has caught up, and redrive what it parks, or send the rows as they are now with gancho backfill`: `rules/a.yaml:3: aplicar a regra x: a tabela public.t não servia à regra quando a mudança foi feita: a coluna "b" não está na tabela public.t; a tabela foi alterada depois, e nenhuma regra serve para as duas formas: use source.on_schema_change: park até o bridge alcançar, e reprocesse o que ele estacionar, ou envie as linhas como estão agora com gancho backfill`,
		// What fixes a value that was not sent: SQL, words, or both.
		"when needs old.a, which is outside of the replica identity and was not sent; run ALTER TABLE public.t REPLICA IDENTITY FULL;":                                                                                                                                     "when precisa de old.a, que está fora da replica identity e não foi enviada; execute ALTER TABLE public.t REPLICA IDENTITY FULL;",
		"when needs old.a, which is outside of the replica identity and was not sent; the table has a partition with less replica identity than its own (a new one has the default); run ALTER TABLE public.t2 REPLICA IDENTITY FULL;":                                     "when precisa de old.a, que está fora da replica identity e não foi enviada; a tabela tem uma partição com menos replica identity que a dela (uma nova tem a padrão); execute ALTER TABLE public.t2 REPLICA IDENTITY FULL;",
		"when needs new.a, a large value that the update did not touch and was not sent; table public.t has REPLICA IDENTITY FULL, so one of its partitions does not have it; run gancho check, which names it":                                                            "when precisa de new.a, um valor grande que o update não tocou, e não foi enviada; a tabela public.t tem REPLICA IDENTITY FULL, então uma de suas partições não tem; execute gancho check, que diz qual",
		"when needs old.a, which is outside of the replica identity and was not sent; do without it: under REPLICA IDENTITY FULL the application's own UPDATE and DELETE of public.t would fail, because publication p publishes the table and it has no replica identity": "when precisa de old.a, que está fora da replica identity e não foi enviada; passe sem isso: com REPLICA IDENTITY FULL o UPDATE e o DELETE da própria aplicação em public.t falhariam, porque a publicação p publica a tabela e ela não tem replica identity",
		// What a query of a rule may no longer do.
		`rules/a.yaml:3: read lookup.c: the query finds more than one row; add a condition, limit 1 or an aggregate`:                                                               `rules/a.yaml:3: ler lookup.c: a consulta encontra mais de uma linha; acrescente uma condição, limit 1 ou uma agregação`,
		`rules/a.yaml:3: read data.a, data.b and 11 others: the row that it finds has more than 16 MiB`:                                                                            `rules/a.yaml:3: ler data.a, data.b e mais 11: a linha que ela encontra tem mais de 16 MiB`,
		`rules/a.yaml:3: read lookup.c: lookup c no longer fits the database: column "n" does not exist (SQLSTATE 42703)`:                                                          `rules/a.yaml:3: ler lookup.c: lookup c não combina mais com o banco: column "n" does not exist (SQLSTATE 42703)`,
		`rules/a.yaml:3: read lookup.c: lookup c lacks a privilege: permission denied for table t (SQLSTATE 42501); as postgres, run GRANT SELECT ON public.t TO gancho;`:          `rules/a.yaml:3: ler lookup.c: falta um privilégio a lookup c: permission denied for table t (SQLSTATE 42501); como postgres, execute GRANT SELECT ON public.t TO gancho;`,
		`rules/a.yaml:3: apply rule x: table public.t can no longer be read: permission denied for table t (SQLSTATE 42501); as postgres, run GRANT SELECT ON public.t TO gancho;`: `rules/a.yaml:3: aplicar a regra x: a tabela public.t não pode mais ser lida: permission denied for table t (SQLSTATE 42501); como postgres, execute GRANT SELECT ON public.t TO gancho;`,
		"the receiver has refused it: no success in 2 attempts":                                                                                                                    "o receptor recusou: sem sucesso em 2 tentativas",
	} {
		if got, _ := portuguese.Translated("reason", english); got != want {
			t.Errorf("%q\n is %q\nwant %q", english, got, want)
		}
	}
}
