package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/state"
)

// MaxPatterns is how many patterns with * a filter may have: the database compares each
// with the event of every row.
const MaxPatterns = 20

// checkEvents refuses a filter with more patterns than a query may cost.
func checkEvents(events []string) error {
	n := 0
	for _, e := range events {
		if strings.Contains(e, "*") {
			n++
		}
	}
	if n > MaxPatterns {
		return invalid("/events", "name the events, of which there may be any number, or ask several times", "%d patterns are too many: at most %d", n, MaxPatterns)
	}
	return nil
}

// Quotas bound what tenants use of what all share. An endpoint is a tenant's when its
// tenants are exactly that one. What is 0 is not limited.
type Quotas struct {
	// Tenant is what each tenant may use, Total what all endpoints may together.
	Tenant, Total Quota
	// Patterns and Headers are of one stored endpoint, which may have as many extra fields
	// as headers.
	Patterns, Headers int
}

// Quota is what may be used. A backlog over its quota is kept as any other: no event is
// lost. Nothing that makes it longer is accepted until it is shorter.
type Quota struct {
	Endpoints             int
	Backlog, BacklogBytes int64
}

// QuotaError reports a quota that is used up.
type QuotaError struct{ Excess }

// Error says what is used up and what to do. It does not say how much all tenants
// together use, which is no tenant's business.
func (e *QuotaError) Error() string {
	if e.Tenant == "" {
		return fmt.Sprintf("the quota of all tenants together is used up; have the operator of Gancho raise quotas.total.%s", e.What)
	}
	if e.What == overJobs || e.What == overTokens {
		return fmt.Sprintf("%s; %s", e.Excess, e.Fix())
	}
	return fmt.Sprintf("%s; %s, or have the operator of Gancho raise quotas.tenant.%s", e.Excess, e.Fix(), e.What)
}

// quotaError is the QuotaError of a state.ErrLimit, or the error itself.
func quotaError(err error, tenant, what string, limit int) error {
	if errors.Is(err, state.ErrLimit) {
		return &QuotaError{Excess{Tenant: tenant, What: what, Used: int64(limit), Limit: int64(limit)}}
	}
	return err
}

// What is over a quota.
const (
	overEndpoints = "endpoints"
	overBacklog   = "backlog"
	overBytes     = "backlog_bytes"
	overJobs      = "jobs"
	overTokens    = "tokens"
)

// Excess is a quota that is used up, or passed.
type Excess struct {
	// Tenant is whose, "" of all together: then Used has of each tenant at most its quota.
	Tenant string
	// What is endpoints, backlog (events), backlog_bytes, jobs or tokens.
	What        string
	Used, Limit int64
	// Endpoints have the longest backlogs, the longest first: up to three. A tenant reads
	// those of a Tenant only.
	Endpoints []string
}

// String says whose use is how high.
func (e Excess) String() string {
	whose := "all endpoints together, of each tenant at most its own quota, have"
	if e.Tenant != "" {
		whose = fmt.Sprintf("the tenant %q has", e.Tenant)
	}
	switch e.What {
	case overEndpoints:
		return fmt.Sprintf("%s %d endpoints, and the quota is %d", whose, e.Used, e.Limit)
	case overJobs:
		return fmt.Sprintf("%s %d resends and redrives that have not ended, and may have %d", whose, e.Used, e.Limit)
	case overTokens:
		return fmt.Sprintf("%s %d tokens, and may have %d", whose, e.Used, e.Limit)
	case overBytes:
		return fmt.Sprintf("%s %d MB of queued events, and the quota is %d MB", whose, e.Used>>20, e.Limit>>20)
	}
	return fmt.Sprintf("%s %d queued events, and the quota is %d", whose, e.Used, e.Limit)
}

// Fix says what to do.
func (e Excess) Fix() string {
	switch e.What {
	case overEndpoints:
		return "remove one"
	case overTokens:
		return "revoke one, such as one that has expired"
	case overJobs:
		return "wait for one to end, or cancel one"
	}
	fix := "let the backlog be delivered"
	if e.Tenant != "" && len(e.Endpoints) > 0 {
		fix += ": see why it grows at " + strings.Join(e.Endpoints, ", ")
	}
	return fix
}

// tenantOf is whose the endpoint is; "": the operator's.
func tenantOf(tenants []string) string {
	if len(tenants) == 1 {
		return tenants[0]
	}
	return ""
}

// use is what a tenant, or all, use.
type use struct {
	endpoints      int64
	backlog, bytes int64
	queues         []*queue.Stats
}

func (u *use) add(s *queue.Stats) {
	u.endpoints++
	u.backlog += s.Backlog + s.Replays
	u.bytes += s.Bytes
	u.queues = append(u.queues, s)
}

// longest are the names of up to three endpoints that have a backlog.
func (u *use) longest() []string {
	sorted := slices.SortedFunc(slices.Values(u.queues), func(a, b *queue.Stats) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Backlog, a.Backlog), strings.Compare(a.Endpoint, b.Endpoint))
	})
	var names []string
	for _, q := range sorted[:min(3, len(sorted))] {
		if q.Backlog+q.Replays > 0 {
			names = append(names, q.Endpoint)
		}
	}
	return names
}

// over are the backlogs of the use that are over the quota.
func (q Quota) over(tenant string, u *use) []Excess {
	var out []Excess
	for _, c := range []struct {
		what        string
		used, limit int64
	}{{overBacklog, u.backlog, q.Backlog}, {overBytes, u.bytes, q.BacklogBytes}} {
		if c.limit > 0 && c.used > c.limit {
			out = append(out, Excess{Tenant: tenant, What: c.what, Used: c.used, Limit: c.limit, Endpoints: u.longest()})
		}
	}
	return out
}

// uses are what each tenant uses, and "" all together: of each tenant that counts at most
// its own quota, so that one which passes that holds up nobody else.
func (q *Quotas) uses(endpoints []*endpoint.Endpoint, stats []queue.Stats) map[string]*use {
	all := map[string]*use{"": {}}
	for i := range stats {
		all[""].add(&stats[i])
		if tenant := tenantOf(endpoints[i].Tenants); tenant != "" {
			if all[tenant] == nil {
				all[tenant] = &use{}
			}
			all[tenant].add(&stats[i])
		}
	}
	beyond := func(n, limit int64) int64 {
		if limit <= 0 {
			return 0
		}
		return max(0, n-limit)
	}
	for tenant, u := range all {
		if tenant != "" {
			all[""].endpoints -= beyond(u.endpoints, int64(q.Tenant.Endpoints))
			all[""].backlog -= beyond(u.backlog, q.Tenant.Backlog)
			all[""].bytes -= beyond(u.bytes, q.Tenant.BacklogBytes)
		}
	}
	return all
}

// Exceeded are the quotas of backlogs that are passed, by tenant, that of all first. The
// statistics are the endpoints', in their order.
func (q *Quotas) Exceeded(endpoints []*endpoint.Endpoint, stats []queue.Stats) []Excess {
	var out []Excess
	for tenant, u := range q.uses(endpoints, stats) {
		quota := q.Tenant
		if tenant == "" {
			quota = q.Total
		}
		out = append(out, quota.over(tenant, u)...)
	}
	slices.SortFunc(out, func(a, b Excess) int {
		return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.What, b.What))
	})
	return out
}

// Overflowing are the endpoints from which events are to move to the state database, and how many of
// each are to stay in Redis: while what Redis holds of a tenant's, or of all, events is over
// the quota, the largest backlogs shrink until half of it is left; full: Redis has no room, so
// half of everything moves, of the bytes or, where Redis does not say how many there are,
// of the events. Those of the endpoints that are stuck do not move: others do in their place. The
// statistics are the endpoints', in their order.
func (q *Quotas) Overflowing(endpoints []*endpoint.Endpoint, stats []queue.Stats, full bool, stuck func(endpoint string) bool) map[string]int64 {
	queues := map[string][]queue.Stats{"": stats}
	for i := range stats {
		if tenant := tenantOf(endpoints[i].Tenants); tenant != "" {
			queues[tenant] = append(queues[tenant], stats[i])
		}
	}
	keep := map[string]int64{}
	for tenant, of := range queues {
		quota := q.Tenant
		if tenant == "" {
			quota = q.Total
		}
		quota.shrink(of, full && tenant == "", stuck, keep)
	}
	return keep
}

// shrink notes in keep how many events of the queues may stay in Redis.
func (q Quota) shrink(queues []queue.Stats, full bool, stuck func(endpoint string) bool, keep map[string]int64) {
	var events, bytes int64
	for i := range queues {
		events += queues[i].Backlog - queues[i].Overflowed
		bytes += queues[i].Bytes - queues[i].OverflowedBytes
	}
	beyond := func(used, limit int64) int64 {
		if limit <= 0 || used <= limit {
			return 0
		}
		return used - limit/2
	}
	halfEvents, halfBytes := (events+1)/2, bytes/2
	unknown := bytes == 0
	events, bytes = beyond(events, q.Backlog), beyond(bytes, q.BacklogBytes)
	switch {
	case full && unknown:
		events = max(events, halfEvents)
	case full:
		bytes = max(bytes, halfBytes)
	}
	largest := slices.SortedFunc(slices.Values(queues), func(a, b queue.Stats) int {
		return cmp.Or(cmp.Compare(b.Bytes-b.OverflowedBytes, a.Bytes-a.OverflowedBytes),
			cmp.Compare(b.Backlog-b.Overflowed, a.Backlog-a.Overflowed), strings.Compare(a.Endpoint, b.Endpoint))
	})
	for _, s := range largest {
		here := s.Backlog - s.Overflowed
		if here == 0 || events <= 0 && bytes <= 0 || stuck(s.Endpoint) {
			continue
		}
		each := max(1, (s.Bytes-s.OverflowedBytes)/here)
		n := min(here, max(events, (bytes+each-1)/each))
		events, bytes = events-n, bytes-n*each
		if known, ok := keep[s.Endpoint]; !ok || here-n < known {
			keep[s.Endpoint] = here - n
		}
	}
}

// used is what tenants use now. Without Redis nobody knows the backlogs: then they count
// as empty, since whoever adds an endpoint must not wait for it.
func (s *Service) used(ctx context.Context) (map[string]*use, error) {
	tenants, err := s.Store.EndpointTenants(ctx)
	if err != nil {
		return nil, err
	}
	names, endpoints := s.together(tenants)
	stats := make([]queue.Stats, len(names))
	if s.Queue != nil {
		switch now, err := s.stats(ctx, names); {
		case err == nil:
			copy(stats, now)
		case !errors.Is(err, queue.ErrUnreachable):
			return nil, err
		}
	}
	return s.Quotas.uses(endpoints, stats), nil
}

// together are the stored endpoints, of which it gets the tenants, and those of the file, by
// name: without their other settings.
func (s *Service) together(tenants map[string][]string) (names []string, endpoints []*endpoint.Endpoint) {
	for _, f := range s.files() {
		tenants[f.Name] = f.Tenants
	}
	names = slices.Sorted(maps.Keys(tenants))
	endpoints = make([]*endpoint.Endpoint, 0, len(names))
	for _, name := range names {
		endpoints = append(endpoints, &endpoint.Endpoint{Name: name, Tenants: tenants[name]})
	}
	return names, endpoints
}

// roomFor returns what refuses an endpoint with these tenants when the quotas have no room
// for one more beside the stored ones.
func (s *Service) roomFor(tenants []string) func(stored map[string][]string) error {
	return func(stored map[string][]string) error {
		_, endpoints := s.together(stored)
		return s.Quotas.checkRoom(s.Quotas.uses(endpoints, make([]queue.Stats, len(endpoints))), tenants, true)
	}
}

// checkRoom refuses what makes the backlog of an endpoint with these tenants longer,
// while their quota, or that of all, is passed; and when add is set, an endpoint more
// than the quotas allow.
func (q *Quotas) checkRoom(used map[string]*use, tenants []string, add bool) error {
	for _, tenant := range slices.Compact([]string{tenantOf(tenants), ""}) {
		quota, u := q.Tenant, used[tenant]
		if tenant == "" {
			quota = q.Total
		}
		if u == nil {
			u = &use{}
		}
		over := quota.over(tenant, u)
		if add && quota.Endpoints > 0 && u.endpoints >= int64(quota.Endpoints) {
			over = append(over, Excess{Tenant: tenant, What: overEndpoints, Used: u.endpoints, Limit: int64(quota.Endpoints)})
		}
		if len(over) > 0 {
			return &QuotaError{over[0]}
		}
	}
	return nil
}

// checkSize refuses more patterns, headers or extra fields than an endpoint may have.
// One that had more before may keep as many: before is nil when it is new.
func (q *Quotas) checkSize(e, before *endpoint.Endpoint) error {
	before = cmp.Or(before, &endpoint.Endpoint{})
	var wrong problems
	for _, c := range []struct {
		key              string
		n, before, limit int
	}{
		{"events", len(e.Events), len(before.Events), q.Patterns},
		{"headers", len(e.Headers), len(before.Headers), q.Headers},
		{"extra", len(e.Extra), len(before.Extra), q.Headers},
	} {
		if c.limit > 0 && c.n > c.limit && c.n > c.before {
			wrong.add(c.key, "name fewer, or have the operator of Gancho raise quotas.endpoint", fmt.Sprintf("%d %s are too many: the quota is %d", c.n, c.key, c.limit))
		}
	}
	return wrong.err()
}
