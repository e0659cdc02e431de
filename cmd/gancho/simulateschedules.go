package main

import (
	"fmt"
	"time"
)

// runs are the runs of rules with schedule.
func (w *simulateWriter) runs() {
	t := w.table("EVENT", "RULE", "SCHEDULE", "NEXT RUN", "ROWS", "EVENTS", "PER HOUR", "TOOK", "MEDIAN", "P95", "LARGEST", "ENDPOINTS")
	once := false
	for i := range w.report.Rules {
		r := &w.report.Rules[i]
		perHour := "-"
		if r.PerHour > 0 {
			perHour = fmt.Sprintf("%.1f", r.PerHour)
		}
		once = once || r.Run.Once
		took := time.Duration(r.Run.Seconds * float64(time.Second)).Round(time.Millisecond).String()
		t.row(r.Event, r.Rule, r.Run.Schedule, r.Run.At.Format("2006-01-02 15:04:05"), fmt.Sprint(r.Run.Rows), fmt.Sprint(r.Events), perHour, took,
			byteSize(r.Size.Median), byteSize(r.Size.P95), byteSize(r.Size.Largest), w.takers(r))
	}
	endTable(t)
	if once {
		w.line(0, "Of a rule with once a run sends what no run before has sent: gancho status shows how much that was.")
	}
}
