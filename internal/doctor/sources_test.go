package doctor_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/internal/doctor"
)

// What is the same of several sources is told once, also if the server said something else beside it at another moment; what differs in
// what is to be done is told of each.
func TestMergedReports(t *testing.T) {
	t.Parallel()
	finding := func(severity cdc.Severity, id, title, why string) doctor.Finding {
		return doctor.Finding{Finding: cdc.Finding{ID: id, Severity: severity, Title: title, Why: why}}
	}
	beside := doctor.Report{Version: "v", Findings: []doctor.Finding{finding(cdc.SeverityOK, "redis.reachable", "it answers", "")}}
	merged := doctor.Merge(beside, []doctor.SourceReport{
		{"b", doctor.Report{Findings: []doctor.Finding{
			finding(cdc.SeverityWarning, "server.wal", "bounded by nothing", "1 GB a day"), finding(cdc.SeverityProblem, "rule.mistake", "no column", "b"), finding(cdc.SeverityOK, "slot.reader", "read", ""),
		}}},
		{"a", doctor.Report{Findings: []doctor.Finding{
			finding(cdc.SeverityWarning, "server.wal", "bounded by nothing", "2 GB a day"), finding(cdc.SeverityProblem, "rule.mistake", "no column", "a"), finding(cdc.SeverityOK, "slot.reader", "read", ""),
		}}},
	})
	var got []string
	for _, f := range merged.Findings {
		line := string(f.Severity) + " " + f.ID + " " + f.Why
		for _, s := range f.Sources {
			line += " " + s
		}
		got = append(got, line)
	}
	want := []string{"ok redis.reachable ", "ok slot.reader  b a", "warning server.wal 1 GB a day b a", "problem rule.mistake b b", "problem rule.mistake a a"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(beside.Findings) != 1 || merged.Version != "v" {
		t.Error("the report that was merged is another one now")
	}
}
