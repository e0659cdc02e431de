package simulate

import (
	"time"

	"gancho/cdc"
	"gancho/mapping"
)

// FirstLine is how a recording begins.
const FirstLine = firstLine

// Quantile is that of the sizes.
func Quantile(part float64, all ...int) int {
	var s sizes
	for _, size := range all {
		s.add(size)
	}
	return s.quantile(part)
}

// Masked masks a payload of a rule whose leaves show the names.
func Masked(names map[string][]string, text string) string {
	m := masks{names: names}
	return string(m.object([]byte(text)))
}

// ChangedFields compares two payloads.
func ChangedFields(a, b string) []string {
	return changedFields(&event{data: []byte(a)}, &event{data: []byte(b)})
}

// Play gives a handler what was recorded.
func Play(r *Recording, h cdc.Handler) error { return r.play(h) }

// Record records changes of one transaction.
func Record(r *Recorder, tx *cdc.Transaction, changes ...*cdc.Change) error {
	if err := r.begin(tx); err != nil {
		return err
	}
	for _, c := range changes {
		if err := r.change(c); err != nil {
			return err
		}
	}
	return r.commit(tx)
}

// WaitsOf applies what changes mean for the timers of a rule.
func WaitsOf(changes ...mapping.TimerChange) WaitReport {
	w := waits{"r": {pending: map[string]time.Time{}}}
	for i := range changes {
		w["r"].apply(&changes[i])
	}
	return *w.of("r")
}
