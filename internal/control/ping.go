package control

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// PingType is the type of the event that a test sends.
const PingType = "ping"

// Test sends a signed event of type ping to an endpoint, whatever its state,
// and returns the request and the answer. Nothing of it is stored, and the queue
// is not touched. Needs Operator.
func (s *Service) Test(ctx context.Context, a Actor, name string) (webhook.Exchange, error) {
	if err := a.may(state.Operator); err != nil {
		return webhook.Exchange{}, err
	}
	found, err := s.find(ctx, a, name)
	if err != nil {
		return webhook.Exchange{}, err
	}
	e, err := s.delivered(found)
	if err != nil {
		return webhook.Exchange{}, err
	}
	return s.Sender.Probe(ctx, &e, ping(name, a.Tenant, time.Now().UTC())), nil
}

// ping is an event of no rule. Each has an id of its own, so that a receiver that
// drops duplicates accepts every one.
func ping(endpoint, tenant string, now time.Time) *webhook.Message {
	id := make([]byte, 12)
	_, _ = rand.Read(id) // never fails
	data, _ := json.Marshal(map[string]string{"endpoint": endpoint, "message": "a test of gancho; nothing has happened"})
	return &webhook.Message{
		ID: "ping_" + hex.EncodeToString(id), Type: PingType, Tenant: tenant, Time: now, Sequence: strconv.FormatInt(now.UnixMicro(), 10), Data: data,
	}
}
