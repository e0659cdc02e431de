package cdc_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/internal/testservers"
)

// TestOneScript: what a publication lacks is said at once, and the SQL, run as it stands, makes the
// source ready, also where rules lack different operations, and tables inherit from what is moved.
func TestOneScript(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const operations = "select concat_ws(', ', case when pubinsert then 'insert' end, case when pubupdate then 'update' end, case when pubdelete then 'delete' end, case when pubtruncate then 'truncate' end) from pg_publication where pubname = 'gancho'"
	for name, test := range map[string]struct {
		setup      []string
		needs      []cdc.TableNeed
		operations string
		heirs      int // places of the table that inherits in publications
	}{
		"two operations": {
			[]string{"create table a (id int primary key)", "create table b (id int primary key)", "create publication gancho for table a, b with (publish = 'insert')"},
			[]cdc.TableNeed{{Name: "a", Insert: true, Update: true}, {Name: "b", Delete: true}}, "insert, update, delete", 0,
		},
		"an operation and a table": {
			[]string{"create table a (id int primary key)", "create table b (id int primary key)", "create publication gancho for table a with (publish = 'insert')"},
			[]cdc.TableNeed{{Name: "a", Truncate: true}, {Name: "b", Update: true}}, "insert, update, truncate", 0,
		},
		"a parent is moved": {
			[]string{
				"create table a (id int primary key)", "create table avisos (texto text)", "create table avisos_velhos () inherits (avisos)",
				"create publication gancho for table only a, only avisos with (publish = 'insert')",
			},
			[]cdc.TableNeed{{Name: "a", Update: true}, {Name: "avisos", Insert: true}}, "insert, update", 0,
		},
		"an heir stays": {
			[]string{
				"create table a (id int primary key)", "create table avisos (texto text)", "create table avisos_velhos (primary key (texto)) inherits (avisos)",
				"create publication gancho for table a, avisos with (publish = 'insert')",
			},
			[]cdc.TableNeed{{Name: "a", Update: true}, {Name: "avisos", Insert: true}}, "insert, update", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pg.Database(t, "", test.setup...)
			o := optionsFor(dsn)
			o.Create = false
			_, err := cdc.Prepare(t.Context(), o, test.needs)
			setup, ok := errors.AsType[*cdc.SetupError](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			conn := dial(t, dsn)
			for _, s := range cdc.Gather(cdc.Statements(setup.Findings)) {
				do(t, conn, s.SQL)
			}
			prepare(t, o, test.needs)
			if diff := cmp.Diff(test.operations, value[string](t, conn, operations)); diff != "" {
				t.Errorf("operations (-want +got):\n%s", diff)
			}
			if heirs := value[int](t, conn, "select count(*) from pg_publication_rel where prrelid = to_regclass('avisos_velhos') and prpubid = (select oid from pg_publication where pubname = 'gancho')"); heirs != test.heirs {
				t.Errorf("the heir is in %d publications, want %d", heirs, test.heirs)
			}
		})
	}
}
