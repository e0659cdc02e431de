package bridge_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/internal/bridge"
)

// TestGaps: which changes of the catalogue are gaps, and from where to where.
func TestGaps(t *testing.T) {
	t.Parallel()
	var tables bridge.Tables
	in := func(places ...string) cdc.Coverage { return cdc.Coverage{Places: places} }
	filtered := in("gancho 1/4")
	filtered.Filter, filtered.FilterID = "a filter", "1"
	out := cdc.Coverage{Missing: "it is not there"}
	all, listed := in("gancho "), in("gancho 1/5")
	all.Whole, listed.Listed = true, true
	lsn, publication := cdc.LSN(0), uint32(7)
	for _, step := range []struct {
		what  string
		table cdc.Coverage
		want  []string
	}{
		{"at first", in("gancho 1/1"), nil},
		{"nothing", in("gancho 1/1"), nil},
		{"in a second publication", in("gancho 1/1", "gancho_insert 1/2"), nil},
		{"in that only", in("gancho_insert 1/2"), nil},
		{"added again", in("gancho_insert 1/3"), []string{"public.t 0/40 0/50 it was created again, or taken out of the publication, and is in it again"}},
		{"left", out, []string{"public.t 0/50 0/0 it is not there"}},
		{"still", out, nil},
		{"back", in("gancho 2/9"), []string{"public.t 0/50 0/80 it is not there"}},
		{"filtered", filtered, []string{"public.t 0/80 0/0 a filter"}},
		{"still filtered", filtered, nil},
		{"without filter", in("gancho 1/4"), nil},
		{"all tables", in("gancho "), []string{"public.t 0/B0 0/C0 it was created again, or taken out of the publication, and is in it again"}},
		{"created again among all tables", all, nil},
		{"the publication is created again, with this table", listed, nil},
		{"all tables, for which the publication is created again", all, []string{"public.t 0/E0 0/F0 it was created again, or taken out of the publication, and is in it again"}},
		{"all tables of a schema, then this one", listed, []string{"public.t 0/F0 0/100 it was created again, or taken out of the publication, and is in it again"}},
	} {
		lsn += 0x10
		step.table.Table = cdc.Name{Schema: "public", Name: "t"}
		if strings.Contains(step.what, "the publication is created again") {
			publication++
		}
		if diff := cmp.Diff(step.want, tables.Compare(cdc.Coverages{Current: lsn, Publication: publication, Tables: []cdc.Coverage{step.table}})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.what, diff)
		}
	}
}

// TestFilterReadsOtherwise: after an upgrade a row filter that was known before is no
// gap, and one that was added meanwhile is.
func TestFilterReadsOtherwise(t *testing.T) {
	t.Parallel()
	at := func(filter string) cdc.Coverages {
		return cdc.Coverages{Current: 0x10, Tables: []cdc.Coverage{{Table: cdc.Name{Schema: "public", Name: "t"}, Places: []string{"gancho 1/1"}, Filter: filter, FilterID: filter}}}
	}
	for _, step := range []struct {
		before, after string
		old           bool
		gaps          int
	}{
		{"a filter", "another form of it", true, 0},
		{"a filter", "another filter", false, 1},
		{"", "a filter", true, 1},
	} {
		var tables bridge.Tables
		tables.Compare(at(step.before))
		if step.old {
			tables.OldForm()
		}
		for i, want := range []int{step.gaps, 0} {
			if gaps := tables.Compare(at(step.after)); len(gaps) != want {
				t.Errorf("%+v, reading %d: gaps %q", step, i, gaps)
			}
		}
	}
}

// TestAttempts: what fails is not tried again at each check.
func TestAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var a bridge.Attempt
		for i, step := range []struct {
			at    string
			after time.Duration
			due   bool
		}{
			{"t is missing", 0, true},
			{"t is missing", 9 * time.Minute, false},
			{"t and u are missing", 0, true},
			{"t is missing", 0, false},
			{"t and u are missing", 9 * time.Minute, false},
			{"t and u are missing", time.Minute, true},
		} {
			<-time.After(step.after)
			if due := a.Due(step.at); due != step.due {
				t.Errorf("step %d: due is %v", i, due)
			}
		}
	})
}
