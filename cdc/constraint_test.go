package cdc_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
)

// TestLoadConstraints: of constraints, those that hold for every row are read.
func TestLoadConstraints(t *testing.T) {
	t.Parallel()
	conn := dial(t, pg.Database(t, "", `
		create domain sn as char(1) check (value in ('S', 'N'));
		create domain sim as sn check (value = 'S');
		create table c (id int primary key, a int not null, b int, s sim, u char(1) check (u in ('A', 'B')));
		insert into c (id, a) values (1, 1);
		create unique index c_b on c (b);
		alter table c add constraint futuro check (b = 1) not valid`))
	want := map[string]bool{"id": true, "a": true}
	if settings, err := cdc.LoadSettings(t.Context(), conn); err != nil {
		t.Fatal(err)
	} else if settings.Version >= 180000 { // a constraint of rows to come only
		if _, err := conn.Exec(t.Context(), "alter table c add constraint presente not null b not valid"); err != nil {
			t.Fatal(err)
		}
	}
	table, err := cdc.LoadTable(t.Context(), conn, "", "", "c")
	if err != nil {
		t.Fatal(err)
	}
	if statements, err := cdc.LeastIdentities(t.Context(), conn, "", "gancho", []cdc.Needed{{Table: table, Columns: []string{"b"}}}); err != nil || len(statements) != 1 || len(statements[0]) > 0 {
		t.Errorf("an identity of a column that may be null: %v, %v", statements, err)
	}
	if diff := cmp.Diff(want, table.NotNull); diff != "" {
		t.Errorf("never null (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"(u = ANY (ARRAY['A'::bpchar, 'B'::bpchar]))"}, table.Checks); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	domains := map[string][]string{"s": {"((VALUE)::bpchar = 'S'::bpchar)", "(VALUE = ANY (ARRAY['S'::bpchar, 'N'::bpchar]))"}}
	if diff := cmp.Diff(domains, table.DomainChecks); diff != "" {
		t.Errorf("checks of domains (-want +got):\n%s", diff)
	}
}
