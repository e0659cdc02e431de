package doctor_test

import (
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/doctor"
	"gancho/internal/testservers"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }

// options are those of a database with a slot of its own.
func options(t *testing.T, dsn string) doctor.Options {
	t.Helper()
	name := dsn[strings.LastIndex(dsn, "/")+1 : strings.LastIndex(dsn, "?")]
	return doctor.Options{Source: cdc.Options{DSN: dsn, Slot: "s_" + name, Publication: "gancho"}, LagWarning: 1 << 30}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// found are the findings of an id.
func found(r *doctor.Report, id string) []doctor.Finding {
	var out []doctor.Finding
	for _, f := range r.Findings {
		if f.ID == id {
			out = append(out, f)
		}
	}
	return out
}

// want is that the one finding of the id has the severity, and the words in its texts.
func want(t *testing.T, r *doctor.Report, id string, severity cdc.Severity, words ...string) doctor.Finding {
	t.Helper()
	all := found(r, id)
	if len(all) != 1 {
		t.Fatalf("%d findings %s in %v", len(all), id, titles(r))
	}
	f := all[0]
	text := f.Title + "\n" + f.Why + "\n" + f.Remedy
	for _, s := range f.Statements {
		text += "\n" + s.SQL
	}
	if f.Severity != severity {
		t.Errorf("%s is %s, not %s: %s", id, f.Severity, severity, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s lacks %q:\n%s", id, w, text)
		}
	}
	return f
}

func titles(r *doctor.Report) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, string(f.Severity)+" "+f.ID+": "+f.Title)
	}
	return out
}
