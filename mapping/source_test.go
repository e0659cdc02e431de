package mapping_test

import (
	"strings"
	"testing"

	"gancho/mapping"
)

// The stream numbers transactions with 32 bits, a snapshot with 64.
func TestVisible(t *testing.T) {
	t.Parallel()
	const epoch = "4294967296" // 1<<32
	for _, c := range []struct {
		snapshot string
		xid      uint32
		want     bool
	}{
		{"100:105:100,103", 99, true},
		{"100:105:100,103", 100, false},
		{"100:105:100,103", 101, true},
		{"100:105:100,103", 105, false}, // running, and none newer has ended
		{"100:105:100,103", 4000, false},
		{"100:105:", 102, true},
		{epoch + ":" + epoch + ":", 4294967295, true},           // the epoch before
		{"4294967290:4294967295:4294967293", 4294967293, false}, // at the end of an epoch
		{"4294967290:4294967295:4294967293", 3, false},          // and after it
		{"12884901893:12884901900:12884901895", 4, true},        // 3<<32 + 5
		{"12884901893:12884901900:12884901895", 7, false},
		{"12884901893:12884901900:12884901895", 8, true},
	} {
		got, err := mapping.VisibleIn(c.snapshot, c.xid)
		if err != nil || got != c.want {
			t.Errorf("transaction %d in %s: %v, %v", c.xid, c.snapshot, got, err)
		}
	}
	for _, s := range []string{"", "1:2", "a:2:", "1:b:", "1:2:c"} {
		if _, err := mapping.VisibleIn(s, 1); err == nil {
			t.Errorf("snapshot %q was read", s)
		}
	}
}

func FuzzLookupColumns(f *testing.F) {
	for _, s := range []string{
		"select nome from clientes where id = new.cliente_id;", `select 'new.x', "new".y, a.new.z, NEW . "X" from t`, "select e'\\'new.x', $a$new.y$a$",
		"/* /* new.x */ */ select 1 -- new.y", "with a as (select old.x) select * from a", "(select 1", "select 1)", "select $1", "$", "e'", "new.",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		columns, query, ok := mapping.LookupColumns(s)
		if !ok {
			return
		}
		rest := query
		for _, c := range columns {
			_, after, found := strings.Cut(rest, c)
			if !found || len(c) < len("new.x") {
				t.Fatalf("%q is not in %q in its turn", c, query)
			}
			rest = after
		}
		again, same, ok := mapping.LookupColumns(query)
		if !ok || same != query || len(again) != len(columns) {
			t.Errorf("%q reads otherwise without its end", query)
		}
	})
}
