package control

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"gancho/delivery/queue"
	"gancho/internal/state"
)

// mayParked reports whether the actor may do with parked changes what needs the role. They
// belong to no tenant: the tenant would be known of the event that could not be made.
func (a Actor) mayParked(needs state.Role) error {
	if err := a.may(needs); err != nil {
		return err
	}
	if a.Tenant != "" {
		return state.ErrNotFound
	}
	return nil
}

// parkedFilter checks a filter, and returns it as the queue has it.
func parkedFilter(f state.Filter) (queue.ParkedFilter, error) {
	if err := checkSpan(f.From, f.To); err != nil {
		return queue.ParkedFilter{}, err
	}
	if len(f.IDs) > 0 || f.Endpoint != "" || f.Tenant != nil || f.Key != "" || len(f.Tags) > 0 || f.Outcome != "" || f.Class != "" || f.Status != nil {
		return queue.ParkedFilter{}, invalid("/filter", "choose by positions, webhook_ids, events, rule, reason, from and to", "a parked change has no endpoint, tenant, key, tags, outcome, class or status")
	}
	if err := checkEvents(f.Events); err != nil {
		return queue.ParkedFilter{}, err
	}
	for _, id := range f.Parked {
		if _, err := queue.ParseID(id); err != nil {
			return queue.ParkedFilter{}, invalid("/positions", "copy it from the list of parked changes", "%q is not the position of a parked change", id)
		}
	}
	p, err := f.ParkedFilter()
	if err != nil {
		return p, invalid("/webhook_ids", "copy it from the list of parked changes", "%v", err)
	}
	return p, nil
}

// Parked is a parked change in a list.
type Parked struct {
	Source string `json:"source,omitempty"` // of several, which: in another one there may be a change at the same position
	queue.ParkedChange
}

// Parked lists the parked changes that the filter chooses, of which no event could be
// made, in commit order and without their rows; of several sources, one source after the other. Needs Viewer.
func (s *Service) Parked(ctx context.Context, a Actor, f state.Filter, cursor string, limit int) (Page[Parked], error) {
	none := Page[Parked]{Items: []Parked{}}
	if err := a.mayParked(state.Viewer); err != nil {
		return none, err
	}
	n, err := pageSize(limit)
	if err != nil {
		return none, err
	}
	filter, err := parkedFilter(f)
	if err != nil {
		return none, err
	}
	from, position, several := strings.Cut(cursor, sourceSeparator)
	if !several {
		from, position = "", cursor
	}
	var after queue.ID
	if cursor != "" {
		if after, err = queue.ParseID(position); err != nil || several != (s.EachSource != nil) {
			return none, badCursor()
		}
	}
	var rows []Parked
	err = gather(ctx, s, func(of *Service) ([]Parked, error) {
		switch {
		case s.EachSource == nil || of.SourceName == from:
			return of.parkedAfter(ctx, filter, after, n+1)
		case of.SourceName < from:
			return nil, nil
		}
		return of.parkedAfter(ctx, filter, queue.ID{}, n+1)
	}, func(some []Parked) { // no more is held than the page has
		rows = append(rows, some...)
		slices.SortStableFunc(rows, func(a, b Parked) int { return strings.Compare(a.Source, b.Source) })
		rows = rows[:min(len(rows), n+1)]
	})
	if err != nil {
		return none, err
	}
	return cut(rows, n, func(p *Parked) string {
		if s.EachSource == nil {
			return p.ID.String()
		}
		return p.Source + sourceSeparator + p.ID.String()
	}), nil
}

// sourceSeparator is between a source and a position in a cursor; neither has it.
const sourceSeparator = "~"

func (s *Service) parkedAfter(ctx context.Context, f queue.ParkedFilter, after queue.ID, n int) ([]Parked, error) {
	if err := s.unreachable(); err != nil {
		return nil, err
	}
	rows, err := s.Queue.Parked(ctx, f, after, n)
	out := make([]Parked, len(rows))
	for i := range rows {
		out[i] = Parked{s.SourceName, rows[i]}
	}
	return out, err
}

// ParkedDetail is a parked change with its row.
type ParkedDetail struct {
	Parked
	// Row has the columns that the rule names, without those that it only masks and those
	// of privacy.deny, as it was when the change was parked: {"new": {...}, "old": {...}}.
	Row json.RawMessage `json:"row,omitempty"`
	// Unreadable is why there is no Row.
	Unreadable string `json:"unreadable,omitempty"`
}

// ParkedChange returns a parked change with its row, and writes to the audit log that the
// actor has read it. Needs Viewer.
func (s *Service) ParkedChange(ctx context.Context, a Actor, id string) (ParkedDetail, error) {
	if err := a.mayParked(state.Viewer); err != nil {
		return ParkedDetail{}, err
	}
	if err := s.whichSource(ctx); err != nil {
		return ParkedDetail{}, err
	}
	at, err := queue.ParseID(id)
	if err != nil {
		return ParkedDetail{}, invalid("/position", "copy it from the list of parked changes", "%q is not the position of a parked change", id)
	}
	if err := s.unreachable(); err != nil {
		return ParkedDetail{}, err
	}
	rows, err := s.Queue.ParkedPage(ctx, queue.ParkedFilter{IDs: []queue.ID{at}}, queue.ID{}, 1, 1)
	if err != nil {
		return ParkedDetail{}, err
	}
	if len(rows) == 0 {
		return ParkedDetail{}, state.ErrNotFound
	}
	d := ParkedDetail{Parked: Parked{s.SourceName, rows[0]}, Row: jsonOf(rows[0].Row)}
	switch {
	case len(d.Change) == 0:
	case s.Store == nil:
		d.Unreadable = ErrNoState.Error()
	default:
		row, err := s.Store.OpenParked(&d.ParkedChange)
		if err != nil {
			d.Unreadable = err.Error()
			break
		}
		d.Row = jsonOf(row.Row)
	}
	if len(d.Row) > 0 && s.Store != nil {
		if err := s.Store.RecordRead(ctx, state.Change{Actor: a.Name, Action: "parked.read", Object: "parked/" + s.inSource(d.ID.String())}); err != nil {
			return ParkedDetail{}, err
		}
	}
	return d, nil
}

// CountParked returns how many parked changes the filter chooses. Needs Viewer.
func (s *Service) CountParked(ctx context.Context, a Actor, f state.Filter) (int64, error) {
	if err := a.mayParked(state.Viewer); err != nil {
		return 0, err
	}
	if err := s.whichSource(ctx); err != nil {
		return 0, err
	}
	filter, err := parkedFilter(f)
	if err != nil {
		return 0, err
	}
	if err := s.unreachable(); err != nil {
		return 0, err
	}
	return s.Queue.CountParked(ctx, filter)
}

// RedriveParked creates a job of r's Rate, or with DryRun only counts, for the parked
// changes that r's Filter chooses; one that chooses everything has to say so: all. The
// process that captures maps them again by its rules as they are then. Its result is
// empty when nothing is chosen. Needs Operator.
func (s *Service) RedriveParked(ctx context.Context, a Actor, r state.Job, all bool) ([]state.Job, error) {
	if err := a.mayParked(state.Operator); err != nil {
		return nil, err
	}
	if err := s.whichSource(ctx); err != nil {
		return nil, err
	}
	if s.Store == nil {
		return nil, ErrNoState
	}
	if err := checkRate(r.Rate); err != nil {
		return nil, err
	}
	if err := checkChoice(r.Filter, all); err != nil {
		return nil, err
	}
	if err := s.checkJobRoom(&r, s.usage(ctx), found{}); err != nil { // which tenants' they are is not known yet
		return nil, err
	}
	n, err := s.CountParked(ctx, a, r.Filter)
	if err != nil || n == 0 {
		return []state.Job{}, err
	}
	j, err := s.createJob(ctx, a, state.Job{Kind: state.RedriveParked, Filter: r.Filter, Rate: r.Rate, DryRun: r.DryRun, Total: n})
	return []state.Job{j}, err
}

// DropParked deletes the parked changes that the filter chooses permanently, and returns
// how many. A filter that chooses everything has to say so: all. Needs Admin.
func (s *Service) DropParked(ctx context.Context, a Actor, f state.Filter, all bool) (int64, error) {
	if err := a.mayParked(state.Admin); err != nil {
		return 0, err
	}
	if err := s.whichSource(ctx); err != nil {
		return 0, err
	}
	if err := checkChoice(f, all); err != nil {
		return 0, err
	}
	filter, err := parkedFilter(f)
	if err != nil {
		return 0, err
	}
	if err := s.unreachable(); err != nil {
		return 0, err
	}
	var ids []queue.ID
	for after := (queue.ID{}); ; {
		page, err := s.Queue.Parked(ctx, filter, after, MaxPage)
		if err != nil {
			return 0, err
		}
		for i := range page {
			ids = append(ids, page[i].ID)
		}
		if len(page) < MaxPage {
			break
		}
		after = ids[len(ids)-1]
	}
	if len(ids) == 0 {
		return 0, nil
	}
	if s.Store != nil {
		if err := s.Store.RecordDroppedParked(ctx, a.Name, s.SourceName, f, len(ids)); err != nil {
			return 0, err
		}
	}
	return s.Queue.DropParked(ctx, ids)
}
