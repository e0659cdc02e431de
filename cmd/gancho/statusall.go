package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/internal/control"
	"gancho/internal/doctor"
	"gancho/internal/language"
)

// sourceSlot is the slot of one of several sources, as its server has it, or why it cannot be read.
type sourceSlot struct {
	config.Database
	slot cdc.Slot
	err  error
}

// sourceSlots reads the slots of the sources: all of a cluster over one connection.
func sourceSlots(ctx context.Context, c *config.Config, all []config.Database) []sourceSlot {
	out := make([]sourceSlot, len(all))
	for i := range all {
		out[i].Database = all[i]
	}
	if c.Sources.Cluster == nil {
		for i := range out {
			out[i].slot, out[i].err = slotAt(ctx, c.For(all[i]))
		}
		return out
	}
	conn, err := cdc.Connect(ctx, c.Sources.Cluster.DSN.Reveal())
	if err == nil {
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	}
	for i := range out {
		if out[i].err = err; err == nil {
			out[i].slot, out[i].err = cdc.ReadSlot(ctx, conn, out[i].Slot)
		}
	}
	return out
}

// mostHeld are the sources, those with the most WAL held first and those whose slots cannot be read last.
func mostHeld(slots []sourceSlot) []config.Database {
	sortHeld(slots)
	out := make([]config.Database, len(slots))
	for i := range slots {
		out[i] = slots[i].Database
	}
	return out
}

func sortHeld(slots []sourceSlot) {
	slices.SortStableFunc(slots, func(a, b sourceSlot) int { return cmp.Compare(b.slot.HeldBytes, a.slot.HeldBytes) })
}

// showSources shows all sources, without those parts of the status that are about one.
func (f *sessionFlags) showSources(cmd *cobra.Command, c *config.Config) error {
	ctx := cmd.Context()
	all, err := allSources(ctx, c)
	if err != nil {
		return err
	}
	s := &session{config: c, cmd: cmd, json: f.json}
	view := control.SourcesView{Sources: []control.Source{}}
	slots := sourceSlots(ctx, c, all)
	sortHeld(slots)
	bySource := map[string]sourceSlot{}
	for _, slot := range slots {
		bySource[slot.Name] = slot
	}
	var wrong []string
	err = eachSource(mostHeld(slots), func(d config.Database) control.Source { return sourceNow(ctx, c, bySource[d.Name]) }, func(_ config.Database, v control.Source) error {
		if v.Problem != "" {
			wrong = append(wrong, v.Name)
		}
		view.Sources = append(view.Sources, v)
		return nil
	})
	if err == nil && s.json {
		err = s.print(view)
	} else if err == nil {
		err = s.sourcesText(view)
	}
	if err == nil && len(wrong) > 0 {
		err = findingsError{fmt.Errorf("%d of %d sources are not in order: %s", len(wrong), len(all), names(wrong))}
	}
	return err
}

// sourceNow is what can be known of a source without its bridge.
func sourceNow(ctx context.Context, c *config.Config, s sourceSlot) control.Source {
	v := control.Source{Name: s.Name, Slot: s.Slot, State: control.SourceVisited}
	switch {
	case s.err != nil:
		v.State, v.Problem = control.SourceRefused, slotProblem(s)
	default:
		v.HeldBytes = &s.slot.HeldBytes
		if s.slot.Active {
			v.State = control.SourceStreaming
		}
		v.Problem = heldProblem(&s.slot, c.Source.LagWarning)
	}
	backlog, err := backlogOf(ctx, c.For(s.Database))
	v.Backlog = backlog
	if err != nil && v.Problem == "" {
		v.Problem = oneLine(explain(err), "its queue is not known").Error()
	}
	return v
}

// heldProblem says what the WAL that is held for a slot endangers; "": nothing.
func heldProblem(s *cdc.Slot, limit int64) string {
	switch {
	case s.WALStatus == "unreserved" || s.WALStatus == "lost":
		return fmt.Sprintf("the server is about to drop the WAL of slot %s (%s); see that gancho run reads it", s.Name, s.WALStatus)
	case s.HeldBytes > limit:
		return fmt.Sprintf("more than lag_warning of WAL is held; see that gancho run reads slot %s", s.Name)
	}
	return ""
}

// slotProblem says why a slot cannot be read, and what to do.
func slotProblem(s sourceSlot) string {
	if errors.Is(s.err, cdc.ErrNoSlot) {
		return fmt.Sprintf("slot %s is missing; where the rules fit the source (see gancho check and gancho plan with --source %s), gancho run --create creates it", s.Slot, s.Name)
	}
	return strings.Join(strings.Fields(s.err.Error()), " ")
}

// backlogOf is how many events of the file's endpoints wait in a source's queues.
func backlogOf(ctx context.Context, c *config.Config) (n int64, err error) {
	s := &session{config: c}
	defer s.close()
	q, err := s.connectQueue(ctx, nil)
	if err != nil {
		return 0, err
	}
	endpoints, err := q.EndpointNames(ctx)
	if err != nil {
		return 0, err
	}
	stats, err := q.Stats(ctx, endpoints)
	for i := range stats {
		n += stats[i].Backlog
	}
	return n, err
}

// sourcesText is a table of sources.
func (s *session) sourcesText(v control.SourcesView) error {
	l, _ := language.From(s.cmd.Context())
	t := newTable(s.cmd.OutOrStdout(), headings(speech(s.cmd), "SOURCE", "SLOT", "STATE", "WAL HELD", "WAITING", "TROUBLE")...)
	for i := range v.Sources {
		source := &v.Sources[i]
		held := "-"
		if source.HeldBytes != nil {
			held = doctor.Bytes(*source.HeldBytes)
		}
		t.row(source.Name, source.Slot, said(l, source.State), held, count(source.Backlog), orDash(problemText(l, source.Problem)))
	}
	return t.end()
}

// problemText is why a source is not read, in a line: a bridge, which knows it as an error, says it in English.
func problemText(l *language.Language, problem string) string {
	if text := said(l, problem); text != problem {
		return text
	}
	var lines []string
	for _, line := range l.Lines(problem) {
		lines = append(lines, line.Text)
	}
	return strings.Join(lines, "\n")
}

// sourcesOfBridge is a table of the sources of the bridge that is asked, if it has several.
func (s *session) sourcesOfBridge() error {
	if s.local != nil || s.source != "" {
		return nil
	}
	v, err := s.SourcesNow(s.cmd.Context(), s.actor)
	if err != nil || len(v.Sources) == 0 {
		return nil //nolint:nilerr // a tenant's token is shown none
	}
	if err := s.say("\n"); err != nil {
		return err
	}
	return s.sourcesText(v)
}
