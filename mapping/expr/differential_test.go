package expr_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping/expr"
)

// seed is GANCHO_TEST_SEED, or the same for each run.
func seed(t testing.TB) uint64 {
	t.Helper()
	n := uint64(20261121)
	if s := os.Getenv("GANCHO_TEST_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("read GANCHO_TEST_SEED: %v", err)
		}
	}
	t.Logf("GANCHO_TEST_SEED=%d", n)
	return n
}

// pairs is GANCHO_PAIRS, or what go test has time for.
func pairs(t testing.TB) int {
	t.Helper()
	if s := os.Getenv("GANCHO_PAIRS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("read GANCHO_PAIRS: %v", err)
		}
		return n
	}
	return testservers.Cases(24_000)
}

const rowsPerSource = 6

// TestDifferential evaluates random expressions over random rows here and in
// PostgreSQL, and expects the same text, null or error, or a refusal by Compile.
func TestDifferential(t *testing.T) {
	t.Parallel()
	n := seed(t)
	for name, part := range map[string]int{"C.UTF-8": 50, "C": 10, "LATIN1": 15, "SQL_ASCII": 10, "pt_BR.UTF-8": 10, "pt-BR-x-icu": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !hasLocale(t, name) {
				t.Skip("the server lacks the locale")
			}
			differentialRun(t, name, n, pairs(t)*part/100)
		})
	}
}

func differentialRun(t *testing.T, locale string, seed uint64, pairs int) {
	r := rand.New(rand.NewPCG(seed, uint64(len(locale))))
	s := openSource(t, locale, r, rowsPerSource)
	d := newDifferential(t, s)
	g := &generator{r: r, made: map[string]int{}}
	for d.pairs < pairs && d.failures < 30 {
		var batch []generated
		for range 100 {
			batch = append(batch, g.expression())
		}
		d.run(t, batch)
	}
	if locale == "C.UTF-8" {
		d.topUp(t, g)
	}
	if locale == "C.UTF-8" {
		d.report(t, g)
	}
}

// topUp shows the features that chance has left out, as far as they are accepted.
func (d *differential) topUp(t *testing.T, g *generator) {
	t.Helper()
	for _, feature := range g.local() {
		for range 10 {
			if d.accepted[feature] >= wantAccepted || d.failures >= 30 {
				break
			}
			var batch []generated
			for range 2 * wantAccepted {
				batch = append(batch, g.showing(feature))
			}
			d.run(t, batch)
		}
	}
}

// wantAccepted is how often each feature must have been accepted.
const wantAccepted = 5

type differential struct {
	source   *source
	scope    *expr.Scope
	machine  *expr.Machine
	accepted map[string]int    // by feature
	reasons  map[string]string // of refusals, each with an example

	lenient bool // errors of evaluation are no difference: they park a change, which is no wrong value

	expressions, pairs, unread, refused, failures int
	foreign                                       int // of unread, what PostgreSQL reads
}

func newDifferential(t testing.TB, s *source) *differential {
	t.Helper()
	scope := s.scope(t)
	return &differential{source: s, scope: scope, machine: expr.NewMachine(scope.Settings), accepted: map[string]int{}, reasons: map[string]string{}}
}

func (d *differential) run(t *testing.T, batch []generated) {
	t.Helper()
	sources := make([]string, len(batch))
	for i, g := range batch {
		sources[i] = g.sql
	}
	want := d.source.evaluate(t, sources)
	for i, g := range batch {
		d.expressions++
		e, err := expr.Compile(g.sql, d.scope)
		rejected, failed := true, true
		for _, w := range want[i] {
			rejected = rejected && w != nil && rejects(*w)
			failed = failed && w != nil && (*w)[0] == '!'
		}
		switch {
		case err != nil && failed: // as it should be
		case err != nil:
			d.refused++
			d.reasons[err.Error()] = g.sql
		case rejected:
			d.failf(t, "%s: accepted, but PostgreSQL says %s", g.sql, *want[i][0])
		default:
			for _, f := range g.features {
				d.accepted[f]++
			}
			d.compare(t, g.sql, e, want[i])
		}
	}
}

// rejects reports the errors of PostgreSQL's parser and analyser.
func rejects(result string) bool {
	return strings.HasPrefix(result, "!42") && result != "!42P22" || result == "!2201B"
}

func (d *differential) compare(t *testing.T, src string, e *expr.Expr, want []*string) {
	t.Helper()
	if strings.TrimPrefix(e.Type().Base().Name, "_") == "money" && d.scope.Settings.Monetary != "" {
		return // which has the form of C here, as in the stream
	}
	for row, w := range want {
		d.pairs++
		d.machine.Load(d.source.changes[row])
		out, null, err := d.machine.AppendText(nil, e)
		got := "=" + string(out)
		if e.Type().Name == "bool" {
			d.compareBool(t, src, e, out, null, err)
		}
		var failed *expr.EvalError
		switch {
		case errors.As(err, &failed):
			got = "!" + failed.Code
		case err != nil:
			got = "?" + err.Error()
		case null:
			got = "null"
		}
		expected := "null"
		if w != nil {
			expected = *w
		}
		if d.source.locale == "SQL_ASCII" && expected == "!22P05" { // what 16 and later say of \u00e9 there
			expected = "!0A000"
		}
		if d.lenient && failed != nil || got == "!22007" || got == "!0A000" && strings.Contains(failed.Message, "not read here") || d.source.version >= 17 && got == "!22008" && strings.Contains(failed.Error(), "infinit") {
			// Dates in text that are not ISO's are an error here, by the package's
			// contract, whether or not PostgreSQL accepts them; so are addresses in
			// other forms than PostgreSQL prints, and the infinite intervals that it
			// has from version 17 on.
			d.unread++
			if expected[0] != '!' {
				d.foreign++
			}
			continue
		}
		if problem := contradiction(d.source.changes[row], e, got); problem != "" {
			d.failf(t, "row %d: %s is %s, and Result says %s", row, src, got, problem)
			return
		}
		if got != expected {
			d.failf(t, "row %d: %s\n  here       %s\n  PostgreSQL %s", row, src, got, expected)
			return
		}
	}
}

// contradiction is what Result says otherwise than the evaluation, of what is certain of the
// row; "" where it agrees.
func contradiction(c *cdc.Change, e *expr.Expr, got string) string {
	result := e.Result(func(old bool, column int) expr.Fact {
		row := c.New
		if old {
			row = c.Old
		}
		f := expr.Fact{NotNull: row[column].State == cdc.Present}
		if f.NotNull && c.Relation.Columns[column].Type.Base().Name != "bpchar" {
			f.Values = []string{string(row[column].Text)}
		}
		return f
	})
	text, known := strings.CutPrefix(got, "=")
	switch {
	case got == "null" && !result.Nullable:
		return "that it is never null"
	case got[0] == '!' && !result.Fails:
		return "that it never fails"
	case known && result.Values != nil && !slices.Contains(result.Values, text):
		return fmt.Sprintf("that it is one of %q", result.Values)
	}
	return ""
}

// compareBool checks that Bool, which has its own code, agrees with AppendText.
func (d *differential) compareBool(t *testing.T, src string, e *expr.Expr, out []byte, null bool, err error) {
	t.Helper()
	v, isNull, failed := d.machine.Bool(e)
	if v != (string(out) == "t") || isNull != null || fmt.Sprint(failed) != fmt.Sprint(err) {
		d.failf(t, "%s: Bool says %v, %v, %v; AppendText %s, %v, %v", src, v, isNull, failed, out, null, err)
	}
}

func (d *differential) failf(t *testing.T, format string, args ...any) {
	t.Helper()
	d.failures++
	message := fmt.Sprintf(format, args...)
	t.Error(message[:min(len(message), 700)])
}

// report checks that refusals are few and that every feature was accepted.
func (d *differential) report(t *testing.T, g *generator) {
	t.Helper()
	if d.refused*4 > d.expressions {
		var list []string
		for reason, src := range d.reasons {
			list = append(list, reason+": "+src)
		}
		slices.Sort(list)
		t.Errorf("%d of %d expressions were refused, more than a quarter:\n%s", d.refused, d.expressions, strings.Join(list, "\n"))
	}
	if d.unread*50 > d.pairs {
		t.Errorf("%d of %d pairs were dates not understood: more than a fiftieth", d.unread, d.pairs)
	}
	var rare []string
	for _, f := range g.local() {
		if f == "= mixed" { // rarely of types that compare
			continue
		}
		if d.accepted[f] < wantAccepted {
			rare = append(rare, fmt.Sprintf("%s %d", f, d.accepted[f]))
		}
	}
	if len(rare) > 0 {
		t.Errorf("accepted fewer than %d times: %s", wantAccepted, strings.Join(rare, ", "))
	}
}
