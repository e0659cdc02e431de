package control

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/state"
	"gancho/mapping"
)

// What WhyRule.Outcome may be.
const (
	WhyEvent     = "event"      // an event was made
	WhyUnwatched = "unwatched"  // an update that changed none of the columns of watch
	WhyFalse     = "when_false" // a conjunct of when was false
	WhyNull      = "when_null"  // a conjunct of when was null
	WhyParked    = "parked"     // the rule could not be applied
	WhyAwaits    = "lookup"     // lookups are being read
	WhyCommit    = "commit"     // decided at the commit; the net change has the rest, if the rule is for it
	WhyChild     = "child"      // it counts as a change of its parent
	WhyNothing   = "no_change"  // the transaction left the row as it was
	WhyGrouped   = "collapsed"  // one event is made of the rows with its collapse key
	WhyRoot      = "root_only"  // its parent was deleted in the same transaction
	// WhyOtherTenant: the backfill that has read the row is for another tenant
	WhyOtherTenant = "other_tenant"

	WhyTimerSet      = "timer_set"      // the row's timer was set, moved or begun again
	WhyTimerCanceled = "timer_canceled" // the row's timer was canceled, if one was pending
	WhyTimerWaits    = "timer_waits"    // the row's timer stays as it is
)

// NoCondition is a WhyView.RowUnread: queries alone read the table.
const NoCondition = "no rule is for changes of the table, so that there is no condition to evaluate on the row"

// RefusedBackfill is a WhyEndpoint.Refused: the backfill that has read the row is for another endpoint.
const RefusedBackfill = "backfill"

// MaxWhyChanges is how many changes of a row Why tells of: the newest ones.
const MaxWhyChanges = 100

// WhyQuestion asks what became of a row's changes.
type WhyQuestion struct {
	Table string // as people write it: its schema may be missing
	Key   string // the primary key; several columns joined by commas
	// Change, instead of Key, asks about the row of a change that RecentChanges lists: its position and ordinal, 16/B374D848-0.
	Change string
	// WebhookID, instead of Table and Key, asks about an event.
	WebhookID string
	From      time.Time
	// Row: the row is read as it is now, and the conditions of rules are evaluated on it.
	Row bool
	// Tenant is the one whose rows are shown; nil: all are.
	Tenant *string
}

// WhyView is what became of a row's changes, or of the one that made an event.
type WhyView struct {
	// WebhookID is that of the event that was asked about: there is no Key then, and of the changes that one, in each source that has it. What the
	// change was, and the Table, are known as long as it is remembered.
	WebhookID string `json:"webhook_id,omitempty"`
	Table     string `json:"table"`
	Key       string `json:"key"`
	// KeyColumns are those of the primary key.
	KeyColumns []string `json:"key_columns"`
	// Capturing: the process that answers captures now. Else it did, and does not know what
	// was changed since.
	Capturing bool `json:"capturing"`
	// Since is from when on changes are known, by their commits: when the process began to
	// capture, or, Overwritten, the newest change that had to make room.
	Since       time.Time `json:"since"`
	Overwritten bool      `json:"overwritten"`
	// ReadsSince is the newest time of a row, read by a backfill, that had to make room; zero:
	// none had to.
	ReadsSince time.Time `json:"reads_since,omitzero"`
	// Rules are those for the table, as they are now; none: it is read by queries of Schedules alone.
	Rules []WhyTableRule `json:"rules"`
	// Schedules are the rules with schedule whose query reads the table; a tenant is shown none.
	Schedules []WhySchedule `json:"schedules,omitempty"`
	// Changes are the newest ones, in the order of their positions. More: there are older ones.
	Changes []WhyChange `json:"changes"`
	More    bool        `json:"more"`
	// Row is what the rules make of the row as it is now, if that was asked for; RowUnread
	// is why it could not be read.
	Row       *mapping.RowJudgement `json:"row,omitempty"`
	RowUnread string                `json:"row_unread,omitempty"`
	// QueueUnread: Redis does not answer, and until when timers wait, and why changes are parked, is missing.
	QueueUnread bool `json:"queue_unread,omitempty"`
	// SourcesUnread are those of several sources, of which this process remembers nothing: it has not read them.
	SourcesUnread []string `json:"sources_unread,omitempty"`
	// OfSources are those of several that the webhook-id is of, where it was asked about and is not remembered.
	OfSources []string `json:"of_sources,omitempty"`
}

// Queried reports whether queries of Schedules alone read the table: no rule is for its changes.
func (v *WhyView) Queried() bool { return len(v.Rules) == 0 && len(v.Schedules) > 0 }

// WhyTableRule is a rule for a table.
type WhyTableRule struct {
	Rule  string `json:"rule"` // file:line
	Event string `json:"event"`
	On    string `json:"on"` // insert or update
}

// WhyChange is a change of the row, or what a transaction has made of it.
type WhyChange struct {
	Source   string    `json:"source,omitempty"` // of several, which
	Time     time.Time `json:"time"`             // of the commit
	Position string    `json:"position"`         // the commit's LSN
	Ordinal  uint64    `json:"ordinal"`          // in the transaction
	Op       string    `json:"op"`
	// Job is the backfill that has read the row, where Op is read.
	Job int64 `json:"job,omitempty"`
	// Net: it is what the transaction has made of the row, to which rules with collapse,
	// children or root_only are applied.
	Net bool `json:"net"`
	// Rules are those that were for the operation.
	Rules []WhyRule `json:"rules"`
}

// WhyRule is what a rule made of a change.
type WhyRule struct {
	Rule    string `json:"rule"` // file:line; empty: it is a rule of before the last reloads
	Event   string `json:"event"`
	Outcome string `json:"outcome"`
	// Number, from 1 of Of, is the conjunct of when that was false or null, and Conjunct its
	// text. A tenant is not shown the text, which may name others.
	Number   int    `json:"conjunct_number,omitempty"`
	Of       int    `json:"conjuncts,omitempty"`
	Conjunct string `json:"conjunct,omitempty"`
	// WebhookID is that of the event, of the one that a timer makes when it is due, or the one that the event of a parked change would have.
	WebhookID string `json:"webhook_id,omitempty"`
	// Due is until when the timer waits that the change has set. Else a later change, of this time, has canceled it or set it
	// again, unless it was due before: where the log has its event, they are zero.
	Due        time.Time `json:"due,omitzero"`
	CanceledBy time.Time `json:"canceled_by,omitzero"`
	SetAgainBy time.Time `json:"set_again_by,omitzero"`
	// TimerParked: the event of the timer that the change has set could not be computed when it was due, and the timer is parked, because of Parked.
	TimerParked bool `json:"timer_parked,omitempty"`
	// Parked is the reason, which a tenant is not shown; Unparked: the change is no longer parked.
	Parked   string `json:"reason,omitempty"`
	Unparked bool   `json:"unparked,omitempty"`
	// Endpoints are those that the event was offered to, as they were then. EndpointsUnknown:
	// that is not remembered any more, and these are those that the delivery log has.
	Endpoints        []WhyEndpoint `json:"endpoints,omitempty"`
	EndpointsUnknown bool          `json:"endpoints_unknown,omitempty"`
}

// WhyEndpoint is an endpoint that an event was offered to.
type WhyEndpoint struct {
	Endpoint string `json:"endpoint"`
	// Refused is why the event was not queued for it: event, tenant, inactive or backfill; "": it was.
	Refused string `json:"refused,omitempty"`
	// Attempts are those in the delivery log, the oldest first.
	Attempts []state.Attempt `json:"attempts,omitempty"`
	// Tenants are the endpoint's, by which control chooses what an actor sees.
	Tenants []string `json:"-"`
}

// ElsewhereError reports what only the process that captures can answer.
type ElsewhereError struct {
	Slot string // that it reads; "": it is not known
}

// Error says whom to ask.
func (e *ElsewhereError) Error() string {
	which := "captures"
	if e.Slot != "" {
		which = "reads the slot " + e.Slot
	}
	return "this process does not capture changes, and knows nothing of them; ask the gancho run that " + which + ": one without --only deliver, which does not stand by"
}

// Why returns what became of a row's changes, as far as the process that captures remembers
// it. A tenant sees the rows of which it is known that they are its own, and no endpoints of
// others. Of several sources it is asked of all, of which a tenant's row can be in one only; a change and a row are asked of one. Needs Viewer; with the row, whose values it shows, Operator and no tenant, and it
// is written to the audit log that the actor has read it.
func (s *Service) Why(ctx context.Context, a Actor, q WhyQuestion) (WhyView, error) {
	needs := state.Viewer
	if q.Row {
		needs = state.Operator
	}
	if _, err := s.stored(a, needs); err != nil {
		return WhyView{}, err
	}
	if err := q.check(a); err != nil {
		return WhyView{}, err
	}
	if a.Tenant != "" {
		q.Tenant = &a.Tenant
	} else {
		q.Tenant = nil
	}
	own := a.source()
	switch {
	case q.WebhookID != "":
		return s.whyEvent(ctx, a, q)
	case s.EachSource == nil:
		return s.whyHere(ctx, a, q)
	case own != "":
		var v WhyView
		err := s.Of(ctx, a, own, func(of *Service) (err error) {
			v, err = of.whyHere(ctx, a, q)
			return err
		})
		return v, err
	case q.Row || q.Change != "":
		return WhyView{}, s.whichSource(ctx)
	}
	return s.whyEverywhere(ctx, a, q)
}

// whyHere is Why at one source.
func (s *Service) whyHere(ctx context.Context, a Actor, q WhyQuestion) (WhyView, error) {
	if s.Verdicts == nil {
		return WhyView{}, &ElsewhereError{}
	}
	v, err := s.Verdicts(q)
	if err == nil && q.Row {
		err = s.readRow(ctx, a, q, &v)
	}
	if err == nil {
		err = v.withoutQueue(s.addTimers(ctx, q, &v))
	}
	if err != nil {
		return WhyView{}, err
	}
	if err = s.join(ctx, a, &v); err == nil {
		err = s.addSchedules(ctx, a, &v)
	}
	v.endTimers()
	for i := range v.Changes {
		v.Changes[i].Source = s.SourceName
	}
	return v, err
}

// withoutQueue notes that Redis does not answer, which does not keep back the rest, or returns another error.
func (v *WhyView) withoutQueue(err error) error {
	if errors.Is(err, queue.ErrUnreachable) {
		v.QueueUnread = true
		return nil
	}
	return err
}

// RecentChanges are the newest changes that the process that captures remembers.
type RecentChanges struct {
	// Capturing and Since are those of a WhyView.
	Capturing bool           `json:"capturing"`
	Since     time.Time      `json:"since"`
	Changes   []RecentChange `json:"changes"` // the newest first
}

// RecentChange is a change with what the rules made of it.
type RecentChange struct {
	Table string `json:"table"`
	WhyChange
}

// ID names the change in a WhyQuestion.
func (c *WhyChange) ID() string { return c.Position + "-" + strconv.FormatUint(c.Ordinal, 10) }

// RecentChanges lists the newest changes that a rule ("": any) has looked at, of any row, with what the rules made of them: limit of them, 0:
// DefaultPage. They tell how rules work, so that they do not exist for a tenant. Needs Operator.
func (s *Service) RecentChanges(ctx context.Context, a Actor, rule string, limit int) (RecentChanges, error) {
	if err := a.may(state.Operator); err != nil {
		return RecentChanges{}, err
	}
	if a.Tenant != "" {
		return RecentChanges{}, state.ErrNotFound
	}
	n, err := pageSize(limit)
	if err != nil {
		return RecentChanges{}, err
	}
	if s.EachSource != nil {
		return s.recentEverywhere(ctx, rule, n)
	}
	return s.recentHere(rule, n)
}

func (s *Service) recentHere(rule string, n int) (RecentChanges, error) {
	if s.Recent == nil {
		return RecentChanges{}, &ElsewhereError{}
	}
	found, err := s.Recent(rule, n)
	for i := range found.Changes {
		found.Changes[i].Source = s.SourceName
	}
	return found, err
}

// check reports what is missing of a question, or not for the actor.
func (q *WhyQuestion) check(a Actor) error {
	var wrong problems
	if q.WebhookID != "" {
		if q.Table != "" || q.Key != "" || q.Change != "" || q.Row || !q.From.IsZero() {
			wrong.add("webhook_id", "leave the others out", "an event is named by its webhook-id alone")
		}
		return wrong.err()
	}
	if q.Row && a.Tenant != "" {
		wrong.add("row", "leave it out", "a token of a tenant is not shown rows of the source")
	}
	if q.Table == "" {
		wrong.add("table", "write table=cobrancas, or the webhook_id of an event", "the table is missing")
	}
	switch {
	case q.Change != "" && a.Tenant != "":
		wrong.add("change", "write the row's primary key", "a token of a tenant asks by the row's key")
	case q.Change != "" && q.Key != "":
		wrong.add("change", "leave one of them out", "the key and a change are both given")
	case q.Change != "" && q.Row:
		wrong.add("row", "give the row's key", "of a change the key is not remembered, without which its row cannot be read")
	case q.Change == "" && q.Key == "":
		wrong.add("key", "write the row's primary key, several columns joined by commas", "the key is missing")
	}
	return wrong.err()
}

// readRow adds what the rules make of the row as it is now. That it was read is written
// down first.
func (s *Service) readRow(ctx context.Context, a Actor, q WhyQuestion, v *WhyView) error {
	switch {
	case s.JudgeRow == nil:
		return &ElsewhereError{}
	case v.Queried():
		v.RowUnread = NoCondition
		return nil
	}
	read := state.Change{Actor: a.Name, Action: "row.read", Object: "row/" + s.inSource(v.Table) + "/" + s.Store.Pseudonym(queue.Subject{Key: q.Key})}
	if err := s.Store.RecordRead(ctx, read); err != nil {
		return err
	}
	var err error
	v.Row, err = s.JudgeRow(ctx, q)
	var invalid *InvalidError
	var elsewhere *ElsewhereError
	if err == nil || errors.As(err, &invalid) || errors.As(err, &elsewhere) || ctx.Err() != nil {
		return err
	}
	v.Row, v.RowUnread = nil, err.Error()
	return nil
}

// join adds to the view what came after the verdicts, and takes out what is not the actor's.
func (s *Service) join(ctx context.Context, a Actor, v *WhyView) error {
	rules := map[string]*WhyRule{} // by webhook-id
	var events, parked []string
	for i := range v.Changes {
		for j := range v.Changes[i].Rules {
			r := &v.Changes[i].Rules[j]
			if a.Tenant != "" {
				r.Conjunct = ""
			}
			r.Endpoints = slices.DeleteFunc(r.Endpoints, func(e WhyEndpoint) bool { return !a.sees(e.Tenants) })
			switch {
			case r.Outcome == WhyParked && a.Tenant == "":
				parked = append(parked, r.WebhookID)
			case r.Outcome != WhyEvent && r.Outcome != WhyTimerSet && r.Outcome != WhyParked:
				continue
			}
			events = append(events, r.WebhookID) // a parked change that was redriven has attempts, too
			rules[r.WebhookID] = r
		}
	}
	if err := v.withoutQueue(s.addReasons(ctx, parked, rules)); err != nil {
		return err
	}
	return s.addAttempts(ctx, a, events, rules)
}

// addReasons adds why changes are parked.
func (s *Service) addReasons(ctx context.Context, ids []string, rules map[string]*WhyRule) error {
	switch {
	case len(ids) == 0:
		return nil
	case s.Queue == nil:
		return s.QueueDown
	}
	filter := queue.ParkedFilter{}
	for _, text := range ids {
		_, id, err := queue.ParseWebhookID(text)
		if err != nil {
			return err
		}
		filter.IDs = append(filter.IDs, id)
	}
	// Not more of the parked changes is read than what lies between them.
	filter.Last = slices.MaxFunc(filter.IDs, queue.ID.Compare)
	rows, err := s.Queue.Parked(ctx, filter, slices.MinFunc(filter.IDs, queue.ID.Compare).Before(), len(ids))
	if err != nil {
		return err
	}
	for _, id := range ids {
		rules[id].Unparked = true
	}
	for i := range rows {
		if r := rules[rows[i].WebhookID]; r != nil {
			r.Parked, r.Unparked = rows[i].Reason, false
		}
	}
	return nil
}

// addAttempts adds what the delivery log has of events.
func (s *Service) addAttempts(ctx context.Context, a Actor, ids []string, rules map[string]*WhyRule) error {
	if len(ids) == 0 {
		return nil
	}
	attempts, err := s.attempts(ctx, a, ids)
	if err != nil {
		return err
	}
	for i := range attempts {
		if r := rules[attempts[i].WebhookID]; r != nil {
			r.addAttempt(&attempts[i])
		}
	}
	for _, r := range rules {
		r.sortAttempts()
	}
	return nil
}

func (r *WhyRule) addAttempt(at *state.Attempt) {
	k := slices.IndexFunc(r.Endpoints, func(e WhyEndpoint) bool { return e.Endpoint == at.Endpoint })
	if k < 0 { // a resend to another endpoint
		k, r.Endpoints = len(r.Endpoints), append(r.Endpoints, WhyEndpoint{Endpoint: at.Endpoint})
	}
	r.Endpoints[k].Attempts = append(r.Endpoints[k].Attempts, *at)
}

func (r *WhyRule) sortAttempts() {
	for i := range r.Endpoints {
		slices.SortStableFunc(r.Endpoints[i].Attempts, func(a, b state.Attempt) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Number, b.Number)) })
	}
}

// WhySchedule is a rule with schedule whose query reads the row's table.
type WhySchedule struct {
	Source string `json:"source,omitempty"` // of several, which
	ScheduleView
	// Sent is the newest attempt that the delivery log has of an event of the rule whose key is the row's; nil: it has none. What a query has had is known
	// by digests of the columns of once alone, so that nobody can tell whether the row was among its results.
	Sent *state.Attempt `json:"sent,omitempty"`
}

// addSchedules adds when schedules run and have run, and what was sent of the row.
func (s *Service) addSchedules(ctx context.Context, a Actor, v *WhyView) error {
	if len(v.Schedules) == 0 || s.Catalogue == nil {
		return nil
	}
	all, _ := s.schedules(ctx) // they say so themselves
	for i := range v.Schedules {
		w := &v.Schedules[i]
		if at := slices.IndexFunc(all, func(of ScheduleView) bool { return of.Rule == w.Rule }); at >= 0 {
			w.ScheduleView = all[at]
		}
		if v.Key == "" {
			continue // it was asked about a change
		}
		sent, err := s.Deliveries(ctx, a, state.Filter{Events: []string{w.Event}, Key: v.Key, Sources: s.ownSource()}, "", 1)
		if err != nil {
			return err
		}
		if len(sent.Items) > 0 {
			w.Sent = &sent.Items[0]
		}
	}
	return nil
}
