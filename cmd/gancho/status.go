package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/internal/control"
)

func newStatusCommand() *cobra.Command {
	var f sessionFlags
	cmd := &cobra.Command{
		Use: "status", Short: "Show the slot, the endpoints' backlogs and the jobs at a glance", Args: noArguments,
		Long: `Show the slot's lag and the WAL that the source holds for it, each endpoint's state and
backlog, and the jobs that run. When a part does not answer, its error is shown beside
the others, and the exit code is 1.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.connectAll(cmd)
			if err != nil {
				return explain(err)
			}
			defer s.close()
			return explain(s.status(cmd.Context()))
		},
	}
	f.register(cmd)
	return cmd
}

// connectAll connects to everything that is reachable, and notes the rest:
// status is asked for when something is wrong.
func (f *sessionFlags) connectAll(cmd *cobra.Command) (*session, error) {
	s, err := f.connect(cmd, withSlot)
	if err != nil {
		return nil, err
	}
	s.failed = map[string]error{}
	if s.config.State.On() {
		if s.Store, err = s.connectStore(cmd.Context()); err != nil {
			s.failed["state"] = err
		}
	}
	if s.Queue, err = s.connectQueue(cmd.Context(), s.Store); err != nil {
		s.failed["queue"] = err
	}
	return s, nil
}

func (s *session) status(ctx context.Context) error {
	v, err := s.Status(ctx, s.actor)
	if err != nil {
		return err
	}
	for part, err := range s.failed {
		v.Errors[part] = explain(err).Error()
		if part == "state" {
			v.Orphans = nil // the store's endpoints are not known: their queues only seem to be orphans
		}
	}
	if s.json {
		err = s.print(v)
	} else {
		err = s.statusText(v)
	}
	if len(v.Errors) > 0 {
		err = errors.Join(err, fmt.Errorf("not in order: %s", strings.Join(slices.Sorted(maps.Keys(v.Errors)), ", ")))
	}
	return err
}

func (s *session) statusText(v control.StatusView) error {
	t := newTable(s.cmd.OutOrStdout(), "version", v.Version)
	if v.Slot == nil {
		t.row("slot", "unknown: "+strings.Join(strings.Fields(v.Errors["slot"]), " ")) // pgconn's errors have lines
	} else {
		reads := "not read by any process"
		if v.Slot.Active {
			reads = "read"
		}
		t.row("slot", fmt.Sprintf("%s, %s; %s not confirmed, %s of WAL held (%s)", v.Slot.Name, reads, size(v.Slot.UnconfirmedBytes), size(v.Slot.HeldBytes), v.Slot.WALStatus))
	}
	if v.WALBudget > 0 {
		t.row("wal budget", fmt.Sprintf("%s, of which %d %% is held", size(v.WALBudget), v.Slot.HeldBytes/max(1, v.WALBudget/100)))
	}
	if v.Errors["capture"] != "" {
		t.row("bridge", "not ready: "+v.Errors["capture"])
	}
	for _, hazard := range v.Hazards {
		t.row("hazard", hazard)
	}
	for _, over := range v.OverQuota {
		t.row("over its quota", over)
	}
	for _, expiring := range v.Expiring {
		t.row("expiring", expiring)
	}
	for _, part := range []string{"queue", "state"} {
		text := "answers"
		if v.Errors[part] != "" {
			text = v.Errors[part]
		} else if part == "state" && s.Store == nil {
			text = "off (no state.key)"
		}
		t.row(part, text)
	}
	t.row("parked changes", s.parkedText(v.Parked))
	for _, name := range slices.Sorted(maps.Keys(v.Orphans)) {
		text := plural(v.Orphans[name], "event") + " of endpoint " + name + ", which no longer exists; add it again"
		if s.Store != nil {
			text += ", or drop them: gancho endpoints remove " + name + " --drop-queue"
		}
		t.row("left behind", text)
	}
	for _, j := range v.Jobs {
		t.row("job", jobText(j))
	}
	if err := t.end(); err != nil || len(v.Endpoints) == 0 {
		return err
	}
	if err := s.say("\n"); err != nil {
		return err
	}
	return endpointColumns(time.Now()).write(s, &pageFlags{}, control.Page[control.EndpointView]{Items: v.Endpoints}, true)
}

// parkedText says how many changes are parked, and what can be done about them.
func (s *session) parkedText(n int64) string {
	switch {
	case n == 0:
		return count(n)
	case s.config.State.On():
		return count(n) + "; see gancho parked list"
	}
	return count(n) + "; see gancho parked list; " + control.UnkeptKey
}

// size prints a number of bytes.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for ; f >= 1000 && i < len(units)-1; i++ {
		f /= 1000
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
