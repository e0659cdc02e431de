package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/config"
	"gancho/internal/control"
	"gancho/internal/doctor"
	"gancho/internal/language"
	"gancho/internal/retry"
)

func newStatusCommand() *cobra.Command {
	var f sessionFlags
	var watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the slot, the endpoints' backlogs and the jobs at a glance", Args: noArguments,
		Long: `Show the slot's lag and the WAL that the source holds for it, the queue and its memory, what
each rule made of the changes of this hour and the one before, each endpoint's state,
backlog, deliveries of the last minute and last answer, and the jobs that run. When a part
does not answer, its error is shown beside the others. The exit code is 3 while something is
not in order, and the last line says what.

Of many databases it shows each one's slot, the WAL that is held for it and how many events
wait, the most WAL first; with --source all that there is to know of that one.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return f.watchStatus(cmd)
			}
			return f.showStatus(cmd)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every 2 seconds, until Ctrl-C")
	return cmd
}

// showStatus shows the status once.
func (f *sessionFlags) showStatus(cmd *cobra.Command) error {
	if f.api == "" && f.source == "" {
		c, err := config.Load(f.config, variable)
		if err != nil {
			return err
		}
		if c.Sources != nil {
			return explain(f.showSources(cmd, c))
		}
	}
	s, err := f.connectAll(cmd)
	if err != nil {
		return explain(err)
	}
	defer s.close()
	return explain(s.status(cmd.Context()))
}

const watchInterval = 2 * time.Second

// watchStatus shows the status again and again, on a terminal in the same place. What is
// not in order is a part of it, and no reason to end.
func (f *sessionFlags) watchStatus(cmd *cobra.Command) error {
	out := cmd.OutOrStdout()
	for {
		var screen bytes.Buffer
		cmd.SetOut(&screen) // shown at once, so that a terminal does not flicker
		err := f.showStatus(cmd)
		cmd.SetOut(out)
		if cmd.Context().Err() != nil { // Ctrl-C, which is why parts did not answer
			return nil //nolint:nilerr // what did not answer says nothing then
		}
		var wrong findingsError
		if err != nil && !errors.As(err, &wrong) {
			return err
		}
		clear := ""
		if isTerminal(out) {
			clear = "\x1b[H\x1b[2J"
		}
		if err != nil && !f.json {
			l, _ := language.From(cmd.Context())
			fmt.Fprintf(&screen, "\n%s\n", errorText(l, err))
		}
		if _, err := fmt.Fprintf(out, "%s%s\n", clear, screen.String()); err != nil {
			return err
		}
		if retry.Wait(cmd.Context(), watchInterval) != nil {
			return nil //nolint:nilerr // Ctrl-C, the way to end it
		}
	}
}

// connectAll connects to everything that is reachable, and notes the rest:
// status is asked for when something is wrong.
func (f *sessionFlags) connectAll(cmd *cobra.Command) (*session, error) {
	s, err := f.connect(cmd, withSlot)
	if err != nil || s.local == nil {
		return s, err
	}
	s.failed = map[string]error{}
	if s.config.State.On() {
		if store, err := s.connectStore(cmd.Context()); err != nil {
			s.failed["state"] = err
		} else {
			s.local.Store, s.local.Directory = store, store.Directory()
		}
		if rules, err := parseRules(s.config); err == nil { // gancho check says what is wrong with them
			s.local.Catalogue = rules.EventTypes
		}
	}
	if s.local.Queue, err = s.connectQueue(cmd.Context(), s.local.Store); err != nil {
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
	if wrong := v.Wrong(); err == nil && len(wrong) > 0 {
		l, _ := language.From(ctx)
		for i := range wrong {
			wrong[i] = l.Translate("cli.wrong", wrong[i])
		}
		err = findingsError{fmt.Errorf("not in order: %s", strings.Join(wrong, ", "))}
	}
	return err
}

func (s *session) statusText(v control.StatusView) error {
	l, _ := language.From(s.cmd.Context())
	t := newTable(s.cmd.OutOrStdout())
	row := func(name, text string) { t.row(l.Translate("cli.status", name), l.Translate("cli.status", text)) }
	row("version", v.Version)
	if v.Slot == nil {
		row("slot", "unknown: "+strings.Join(strings.Fields(v.Errors["slot"]), " ")) // pgconn's errors have lines
	} else {
		reads := "not read by any process"
		switch {
		case v.Slot.Active:
			reads = "read"
		case v.Source != "":
			reads = "read from time to time"
		}
		row("slot", fmt.Sprintf("%s, %s; %s not confirmed, %s of WAL held (%s)", v.Slot.Name, reads, doctor.Bytes(v.Slot.UnconfirmedBytes), doctor.Bytes(v.Slot.HeldBytes), v.Slot.WALStatus))
	}
	if v.WALBudget > 0 {
		row("wal budget", fmt.Sprintf("%s, of which %d %% is held", doctor.Bytes(v.WALBudget), v.Slot.HeldBytes/max(1, v.WALBudget/100)))
	}
	if v.Errors["capture"] != "" {
		row("bridge", "not ready: "+v.Errors["capture"])
	}
	for _, hazard := range v.Hazards {
		row("hazard", l.Translate("cli.finding", hazard))
	}
	for _, over := range v.OverQuota {
		row("over its quota", over)
	}
	for _, expiring := range v.Expiring {
		row("expiring", expiring)
	}
	for _, part := range []string{"queue", "state"} {
		text := "answers"
		if v.Errors[part] != "" {
			text = l.Translate("cli.error", v.Errors[part])
		} else if part == "state" && !s.stored() {
			text = "off (no state.key)"
		} else if part == "queue" && v.Memory != nil {
			text += "; " + memoryText(v.Memory)
		}
		row(part, text)
	}
	row("parked changes", s.parkedText(v.Parked))
	for i := range v.Endpoints {
		if e := &v.Endpoints[i]; e.Live != nil && e.Live.Closing != nil {
			row("closing", fmt.Sprintf("of endpoint %s: %s", e.Name, e.Live.Closing.Text()))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.Orphans)) {
		text := plural(v.Orphans[name], "event") + " of endpoint " + name + ", which no longer exists; add it again"
		if s.stored() {
			text += ", or drop them: gancho endpoints remove " + name + " --drop-queue"
		}
		row("left behind", text)
	}
	for _, j := range v.Jobs {
		row("job", jobText(l, j))
	}
	if err := errors.Join(t.end(), s.sourcesOfBridge(), s.ruleText(v.Rules), s.scheduleText(v.Schedules), s.timerText(v.Timers)); err != nil || len(v.Endpoints) == 0 {
		return err
	}
	if err := s.say("\n"); err != nil {
		return err
	}
	columns := statusColumns(speech(s.cmd), time.Now())
	return columns.write(s, &pageFlags{}, control.Page[control.EndpointView]{Items: v.Endpoints}, true)
}

// ruleText is a table of the rules that have seen changes in this hour or the one before.
func (s *session) ruleText(rules []control.RuleRate) error {
	if len(rules) == 0 {
		return nil
	}
	if err := s.say("\n"); err != nil {
		return err
	}
	t := newTable(s.cmd.OutOrStdout(), headings(speech(s.cmd), "RULE", "SEEN", "MATCHED", "EVENTS/MIN", "PARKED")...)
	for i := range rules {
		r := &rules[i]
		t.row(r.Rule, count(r.Seen), count(r.Matched), strconv.FormatFloat(r.PerMinute, 'f', 1, 64), count(r.Parked))
	}
	return t.end()
}

// memoryText says how full Redis is.
func memoryText(m *control.MemoryView) string {
	if m.Max == 0 {
		return doctor.Bytes(m.Used) + " of memory used, no maxmemory"
	}
	return fmt.Sprintf("%s of %s of memory used (%d %%)", doctor.Bytes(m.Used), doctor.Bytes(m.Max), m.Used*100/m.Max)
}

// statusColumns are those of the endpoints with what was sent in the last minute.
func statusColumns(l *language.Language, now time.Time) *listed[control.EndpointView] {
	columns := endpointColumns(now)
	at := slices.Index(columns.heading, "FROM")
	row := columns.row
	columns.heading = slices.Insert(slices.Clone(columns.heading), at, "SENT/MIN", "LAST ANSWER")
	columns.row = func(e *control.EndpointView) []string {
		sent, last := "-", "-"
		if r := e.Recent; r != nil {
			sent, last = count(r.Delivered), r.Class
			if r.Status > 0 {
				last = strconv.Itoa(r.Status)
			}
			last += " " + l.Text("time.ago", "span", age(r.Last, now))
		}
		return slices.Insert(row(e), at, sent, last)
	}
	return columns
}

// parkedText says how many changes are parked, and what can be done about them.
func (s *session) parkedText(n int64) string {
	switch {
	case n == 0:
		return count(n)
	case s.local == nil, s.config.State.On():
		return count(n) + "; see gancho parked list"
	}
	return count(n) + "; see gancho parked list; " + control.UnkeptKey
}
