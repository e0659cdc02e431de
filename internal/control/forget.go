package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/retry"
	"gancho/internal/state"
)

// ForgetRequest is whose data is to be erased: what has one ordering key of one tenant.
type ForgetRequest struct {
	// Tenant is nil for that of the actor; "": what has none.
	Tenant *string
	Key    string
	// Events are patterns with *; none: all.
	Events []string
	DryRun bool // only count
}

// Erased is what was found, or erased, by where it was.
type Erased struct {
	Queue    queue.Forgotten `json:"queue"`
	Database state.Forgotten `json:"state_database"`
	// Parked changes in Redis, of which no event could be made.
	Parked int64 `json:"parked"`
}

// Total is the number of all.
func (e *Erased) Total() int64 {
	q, d := &e.Queue, &e.Database
	return q.Queued + q.Resends + q.DeadLetters + q.Attempts + d.KeptEvents + d.DeadLetters + d.Attempts + d.Mentions + e.Parked
}

// Receipt is for the file: what was erased, and what is left. It has no personal data,
// unless the tenant's name is.
type Receipt struct {
	// Subject is a hash under state.key of tenant and key; empty without a state.key.
	Subject string   `json:"subject,omitempty"`
	Tenant  string   `json:"tenant"`
	Events  []string `json:"events,omitempty"`
	DryRun  bool     `json:"dry_run,omitempty"`
	By      string   `json:"by"`
	// Audit is the number of the entry in the audit log.
	Audit  int64     `json:"audit,omitempty"`
	Begun  time.Time `json:"begun"`
	Ended  time.Time `json:"ended,omitzero"`
	Erased Erased    `json:"erased"`
	// Receivers are the endpoints that were sent something, as far as the delivery log says.
	Receivers []string `json:"receivers,omitempty"`
	// UndeterminedParked are parked changes whose tenant and key are not known: any of them
	// may be of the subject.
	UndeterminedParked int64 `json:"undetermined_parked,omitempty"`
	// Left is what Gancho cannot erase, in sentences with what to do.
	Left []string `json:"left"`
}

// forgetPasses is how often at most what arrives meanwhile is looked for again, and
// forgetWait the wait before: what a redrive is moving from the state database to Redis has
// then arrived, if it is not one that waits.
const (
	forgetPasses = 10
	forgetWait   = 400 * time.Millisecond
)

// Forget erases what Gancho keeps of a subject: its events in the queues, which are not
// sent, its dead letters, kept events, attempts and parked changes. The audit log has an
// entry from the beginning. Calling it again finishes what a call that was
// interrupted has left; the receipt of one that failed, beside the error, has what it has erased. A tenant erases its own, on endpoints of the operator's, too. Needs Admin.
func (s *Service) Forget(ctx context.Context, a Actor, r ForgetRequest) (Receipt, error) {
	if err := a.may(state.Admin); err != nil {
		return Receipt{}, err
	}
	of, err := a.subject(r)
	if err != nil {
		return Receipt{}, err
	}
	begun := time.Now()
	receipt := Receipt{Tenant: of.Tenant, Events: of.Events, DryRun: r.DryRun, By: a.Name, Begun: begun.UTC().Truncate(time.Second)}
	if of.Elsewhere, err = s.othersOnly(ctx, a); err != nil {
		return receipt, err
	}
	if err := s.checkSource(ctx, of, &receipt); err != nil {
		return receipt, err
	}
	if receipt.Receivers, err = s.receivers(ctx, of); err != nil {
		return receipt, err
	}
	if s.Store != nil {
		receipt.Subject = s.Store.Pseudonym(of)
	}
	if err := s.leaveTimers(ctx, a, of, &receipt); err != nil {
		return receipt, err
	}
	if err := s.leaveRuns(ctx, a, of, &receipt); err != nil {
		return receipt, err
	}
	if r.DryRun {
		err := s.countSubject(ctx, a, of, &receipt)
		receipt.leave(a)
		return receipt, err
	}
	entry := state.Change{Actor: a.Name, Tenant: of.Tenant, Action: "forget", Object: state.SubjectObject(receipt.Subject)}
	if s.Store != nil {
		// The receivers are written down now: a call that is repeated finds them here alone.
		if entry, err = s.Store.BeginForget(ctx, entry, receipt); err != nil {
			return receipt, err
		}
		receipt.Audit = entry.ID
	}
	if err := s.eraseSubject(ctx, a, of, &receipt); err != nil {
		s.noteErased(ctx, entry, receipt)
		return receipt, err
	}
	receipt.Ended = time.Now().UTC().Truncate(time.Second)
	if err := s.leaveJobs(ctx, a, of, &receipt, begun); err != nil {
		return receipt, err
	}
	// The entry is the tenant's to read, as the receipt of its own call would be.
	kept := receipt
	kept.Left = slices.Clone(receipt.Left)
	kept.leave(Actor{Tenant: of.Tenant})
	receipt.leave(a)
	if s.Store != nil {
		return receipt, s.Store.EndForget(ctx, entry, kept)
	}
	return receipt, nil
}

// noteErased adds to the audit log what a call that failed has erased: the repeated one does
// not find it. That it cannot be written is no news: the call's own error says so as a rule.
func (s *Service) noteErased(ctx context.Context, entry state.Change, receipt Receipt) {
	if s.Store == nil || receipt.Erased.Total() == 0 {
		return
	}
	receipt.Left = []string{"the call failed: run it again for the rest"}
	_ = s.Store.EndForget(context.WithoutCancel(ctx), entry, receipt)
}

// othersOnly are the endpoints of other tenants alone: an actor of one neither reads their
// queues nor waits for that. The operator's may have anything, such as what an endpoint was sent
// before it was given to another tenant.
func (s *Service) othersOnly(ctx context.Context, a Actor) ([]string, error) {
	if a.Tenant == "" {
		return nil, nil
	}
	tenants := map[string][]string{}
	if s.Store != nil {
		var err error
		if tenants, err = s.Store.EndpointTenants(ctx); err != nil {
			return nil, err
		}
	}
	for _, f := range s.files() { // they are in use where both have the name
		tenants[f.Name] = f.Tenants
	}
	var names []string
	for name, of := range tenants {
		if len(of) > 0 && !slices.Contains(of, a.Tenant) {
			names = append(names, name)
		}
	}
	return names, nil
}

// checkSource says what is left where no source that there is now has the subject's tenant: it may be one that is no source any more, or a
// tenant that was written without its source. That is no mistake: what the state database has of it, and what was queued when there was
// one source, is erased.
func (s *Service) checkSource(ctx context.Context, of queue.Subject, r *Receipt) error {
	known := s.EachSource == nil
	err := s.everyQueue(ctx, func(source string, _ *queue.Queue) error {
		known = known || source != "" && (of.Tenant == source || strings.HasPrefix(of.Tenant, source+"/"))
		return nil
	})
	if !known {
		r.Left = append(r.Left, "no source has this tenant: of several sources it begins with the source's name, as in SOURCE/TENANT, or is SOURCE alone; queues of a database that is not one of the sources now, and what has moved from them to the state database (gancho.overflow), were not looked at: have it be one again, and run this again")
	}
	return err
}

// receivers are the endpoints that were sent something of a subject, as far as is known.
func (s *Service) receivers(ctx context.Context, of queue.Subject) ([]string, error) {
	var names []string
	err := scan(ctx, func() error {
		return s.everyQueue(ctx, func(_ string, q *queue.Queue) error {
			some, err := q.SubjectReceivers(ctx, of)
			names = append(names, some...)
			return err
		})
	})
	if err == nil && s.Store != nil {
		var stored []string
		stored, err = s.Store.Receivers(ctx, of)
		names = append(names, stored...)
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// leaveTimers says that timers wait for rows with the key: they have no data but the key, and whose rows they are is not known, so that they are not
// removed.
func (s *Service) leaveTimers(ctx context.Context, a Actor, of queue.Subject, r *Receipt) error {
	if a.Tenant != "" {
		return nil
	}
	var n int64
	err := s.everyQueue(ctx, func(_ string, q *queue.Queue) error {
		some, err := q.CountKeyTimers(ctx, of)
		n += int64(some)
		return err
	})
	if n > 0 {
		r.Left = append(r.Left, fmt.Sprintf("%d timers of rules with after wait for a row with this primary key, and make events when they are due; delete the row at the source, or change it so that when is false, which cancels them", n))
	}
	return err
}

// leaveRuns says what runs of schedules keep: events that are on their way into the queues, and of the rows that were sent digests, which are of no key
// that is known, and without which the rows would be sent again.
func (s *Service) leaveRuns(ctx context.Context, a Actor, of queue.Subject, r *Receipt) error {
	if s.Store == nil {
		return nil
	}
	found, err := s.Store.ScheduledOf(ctx, of)
	if found.Pending > 0 {
		r.Left = append(r.Left, fmt.Sprintf("%d scheduled runs that have not ended have events of the person, and queue them when they go on; run this again after they have ended (gancho status)", found.Pending))
	}
	for _, event := range found.Unreadable {
		r.Left = append(r.Left, fmt.Sprintf("a run of the schedule %s has events that cannot be read, and may be of the person; it fails, and says what to do (gancho status); run this again after it has ended", event))
	}
	if found.Digests && a.Tenant == "" {
		r.Left = append(r.Left, "rules with schedule know the rows that they have sent by digests, which hold no value, but tell whoever has the state database and guesses all values of a row that it was sent; each is deleted 400 days after the last run that had its row")
	}
	return err
}

// leaveJobs names the jobs that may have had something of the subject in memory since begun.
func (s *Service) leaveJobs(ctx context.Context, a Actor, of queue.Subject, r *Receipt, begun time.Time) error {
	if s.Store == nil {
		return nil
	}
	jobs, naming, err := s.Store.JobsOf(ctx, of, a.Tenant == "", time.Since(begun))
	if jobs > 0 {
		r.Left = append(r.Left, fmt.Sprintf("resends or redrives that have not ended, or ended less than %d seconds before this, may have had events of the person in memory; run this again %[1]d seconds after they have ended (gancho resend list)",
			int(state.JobLease.Seconds())))
	}
	if naming > 0 {
		r.Left = append(r.Left, fmt.Sprintf("%d of them name the key in their filter, which is erased when this is run again after they have ended", naming))
	}
	return err
}

// subject checks whose data is meant.
func (a Actor) subject(r ForgetRequest) (queue.Subject, error) {
	var wrong problems
	if r.Key == "" {
		wrong.add("key", "write the ordering key of the person's events, as gancho deliveries shows it", "the key is missing")
	}
	tenant := r.Tenant
	if tenant == nil && a.Tenant != "" {
		tenant = &a.Tenant
	}
	if tenant == nil {
		wrong.add("tenant", `write the tenant of the person's events, or "" if they have none`, "the tenant is missing")
	}
	if err := wrong.err(); err != nil {
		return queue.Subject{}, err
	}
	if err := checkEvents(r.Events); err != nil {
		return queue.Subject{}, err
	}
	if _, err := a.scope(state.Filter{Tenant: tenant}); err != nil {
		return queue.Subject{}, err
	}
	return queue.Subject{Tenant: *tenant, Key: r.Key, Events: r.Events}, nil
}

func (s *Service) countSubject(ctx context.Context, a Actor, of queue.Subject, r *Receipt) (err error) {
	err = scan(ctx, func() error {
		return s.everyQueue(ctx, func(_ string, q *queue.Queue) error {
			found, err := q.CountSubject(ctx, of)
			r.Erased.Queue.Add(found)
			if err != nil {
				return err
			}
			parked, unknown, err := q.ForgetParked(ctx, of, s.parkedOf(of), false)
			r.Erased.Parked, r.UndeterminedParked = r.Erased.Parked+parked, r.UndeterminedParked+unknown
			return err
		})
	})
	if err != nil {
		return err
	}
	if s.Store != nil {
		r.Erased.Database, err = s.Store.CountSubject(ctx, of, a.Tenant == "")
	}
	return err
}

// parkedOf says of a parked change whether it is of the subject, and whether that is known.
func (s *Service) parkedOf(of queue.Subject) func(subject string) (is, known bool) {
	if s.Store == nil {
		return func(string) (is, known bool) { return false, false }
	}
	return s.Store.ParkedOf(of)
}

// eraseSubject erases until a pass finds nothing: a bridge may be moving dead letters from the
// database to Redis. In the other direction nothing passes: what was read of Redis before it was
// erased there is not stored after Store.Forget.
func (s *Service) eraseSubject(ctx context.Context, a Actor, of queue.Subject, r *Receipt) error {
	for pass := 0; ; pass++ {
		inQueue, parked, err := s.eraseQueues(ctx, of, r)
		if err != nil {
			return err
		}
		var stored state.Forgotten
		if s.Store != nil {
			stored, err = s.Store.Forget(ctx, of, a.Tenant == "")
			r.Erased.Database.Add(stored)
			if err != nil {
				return err
			}
		}
		stored.Mentions = 0 // nobody moves them
		if inQueue == (queue.Forgotten{}) && parked == 0 && stored == (state.Forgotten{}) {
			return nil
		}
		if pass == forgetPasses {
			return fmt.Errorf("events of the key still arrive: what was found is erased (%d), and the rest is not; stop what makes them, and run it again", r.Erased.Total())
		}
		if err := retry.Wait(ctx, forgetWait); err != nil {
			return err
		}
	}
}

// eraseQueues erases what Redis has of a subject, adds it to the receipt, and returns it.
func (s *Service) eraseQueues(ctx context.Context, of queue.Subject, r *Receipt) (inQueue queue.Forgotten, parked int64, err error) {
	undetermined := int64(0)
	err = scan(ctx, func() error {
		return s.everyQueue(ctx, func(_ string, q *queue.Queue) error {
			removed, err := q.Forget(ctx, of)
			inQueue.Add(removed)
			if err != nil {
				return err
			}
			n, unknown, err := q.ForgetParked(ctx, of, s.parkedOf(of), true)
			parked, undetermined = parked+n, undetermined+unknown
			return err
		})
	})
	r.Erased.Queue.Add(inQueue)
	r.Erased.Queue.Unreadable, inQueue.Unreadable = inQueue.Unreadable, 0 // each pass finds them again
	r.Erased.Parked += parked
	r.UndeterminedParked = undetermined
	return inQueue, parked, err
}

// leave says what is left, as far as it concerns the actor.
func (r *Receipt) leave(a Actor) {
	if len(r.Receivers) > 0 {
		r.Left = append(r.Left, "receivers have what they were sent; ask those of these endpoints to erase it")
	}
	r.Left = append(r.Left,
		"a request that was in flight is logged when it ends, and an event that the source commits later is captured; erase the person at the source first, and run this again afterwards",
		"where state.keep_changes is set, events of other keys keep the whole rows that they were made of, encrypted, which may be this person's, until they expire (state.keep_events); run this for those keys, too")
	if n := r.Erased.Queue.Unreadable; n > 0 {
		r.Left = append(r.Left, fmt.Sprintf("%d entries of the log of attempts in redis cannot be read, and may have attempts of this person's events; a process of a newer version may have written them: "+
			"run this again when that has stored them", n))
	}
	if a.Tenant != "" {
		r.UndeterminedParked = 0 // they are the operator's
		r.Left = append(r.Left, "backups and log files of the operator's servers keep it until they expire, and an endpoint that has other tenants now may still have queued what it got before; ask the operator")
		return
	}
	if r.UndeterminedParked > 0 {
		r.Left = append(r.Left, fmt.Sprintf("%d parked changes have no known tenant and key, and may be of this person; see gancho parked list", r.UndeterminedParked))
	}
	r.Left = append(r.Left,
		"redis keeps deleted entries of a stream in its memory and files until all of their neighbours are deleted, and its append-only file has them until it is rewritten (BGREWRITEAOF)",
		"redis's RDB files and replicas, and all backups of them, as of when they were made",
		"postgresql keeps deleted rows until VACUUM, and its WAL, archives, replicas and backups as of when they were made",
		"the source's WAL that is not confirmed yet, and the source itself",
	)
}
