package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"gancho/internal/receiver"
)

// arrival is one webhook as an endpoint's receiver got it.
type arrival struct {
	receiver.Delivery
	Endpoint string
}

// arrivals counts what arrived at one endpoint and checks its order. Its methods
// may be called by any goroutine.
type arrivals struct {
	changed chan struct{} // holds a token when something has arrived

	mu         sync.Mutex
	counts     Counts // first deliveries
	duplicates int
	invalid    int
	unordered  int
	unreadable int
	last       map[string]string  // ordering key to the sequence of its last first delivery
	latencies  receiver.Latencies // of all but bulkEvent
	bulk       receiver.Latencies // of bulkEvent
}

func newArrivals() *arrivals {
	return &arrivals{changed: make(chan struct{}, 1), counts: Counts{}, last: map[string]string{}}
}

// add counts a webhook. Every one of the demo's keys is a client, an order or
// a product, which its payload names.
func (r *arrivals) add(a *arrival) {
	key, keyErr := orderingKey(a)
	tenant, tenantErr := strconv.Atoi(a.Tenant)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case a.Verified != nil:
		r.invalid++
	case a.Attempt > 1:
		r.duplicates++
	case keyErr != nil || tenantErr != nil:
		r.unreadable++
	default:
		r.counts[Kind{a.Type, tenant}]++
		if a.Type == bulkEvent {
			r.bulk.Add(a.CommitToArrival)
		} else {
			r.latencies.Add(a.CommitToArrival)
		}
		if a.Sequence <= r.last[key] { // fixed width: texts compare as positions do
			r.unordered++
		}
		r.last[key] = max(r.last[key], a.Sequence)
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// orderingKey is what the webhook's rule orders by: within the tenant, the
// client of whatever belongs to one, else the row itself.
func orderingKey(a *arrival) (string, error) {
	var data struct {
		ID     json.Number `json:"id"`
		Client json.Number `json:"cliente_id"`
	}
	if err := json.Unmarshal(a.Data, &data); err != nil {
		return "", err
	}
	kind, _, _ := strings.Cut(a.Type, ".")
	id := data.ID
	switch kind {
	case "contrato", "pagamento", "acesso":
		kind, id = "cliente", data.Client
	}
	if id == "" {
		return "", fmt.Errorf("payload of %s names no key", a.Type)
	}
	return a.Tenant + "/" + kind + "/" + id.String(), nil
}

// total is how many first deliveries have arrived.
func (r *arrivals) total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts.Total()
}

// wait returns when that many first deliveries have arrived, when none has
// arrived for the given time, or when the context is done.
func (r *arrivals) wait(ctx context.Context, total int, patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for r.total() < total {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-r.changed:
			timer.Reset(patience)
		}
	}
}
