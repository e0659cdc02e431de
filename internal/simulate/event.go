package simulate

import (
	"bytes"
	"cmp"
	"fmt"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/mapping"
)

// event is an event, or, with a reason, a change that a rule could not be applied to. It
// has memory of its own.
type event struct {
	cdc.Position
	id          string // the webhook-id of one that was sent
	n           int
	name, rule  string
	table       string // of a parked change
	op          cdc.Op
	time        time.Time
	tenant, key string
	data        []byte
	previous    []byte
	unchanged   []byte
	errors      []byte
	tags        []byte // a JSON array
	version     string
	reason      string
	// corrections and others are the highest numbers of what was sent again behind it.
	corrections, others int
}

func eventOf(e *mapping.Event) event {
	return event{
		Position: e.Position, n: e.N, name: e.Type, rule: e.Rule, op: e.Op, time: e.Time, tenant: string(e.Tenant), key: string(e.Key),
		data: bytes.Clone(e.Data), previous: bytes.Clone(e.Previous), unchanged: bytes.Clone(e.Unchanged), errors: bytes.Clone(e.Errors),
		tags: bytes.Clone(e.Tags), version: e.Version,
	}
}

func parkedOf(p *mapping.Parked) event {
	return event{Position: p.Position, n: p.N, name: p.Type, rule: p.Rule, table: p.Table, op: p.Op, time: p.Time, reason: p.Reason}
}

// compare orders events by their changes.
func (e *event) compare(o *event) int {
	return cmp.Or(cmp.Compare(e.Commit, o.Commit), cmp.Compare(e.Ordinal, o.Ordinal))
}

// size is about what the event takes, in bytes.
func (e *event) size() int {
	return 256 + len(e.tenant) + len(e.key) + len(e.data) + len(e.previous) + len(e.unchanged) + len(e.errors) + len(e.reason)
}

// place is where the change stands, or its event that was sent, for people; empty: of an existing row.
func (e *event) place() string {
	switch {
	case e.id != "":
		return e.id
	case e.op == cdc.Read && e.Commit == 0:
		return ""
	}
	return fmt.Sprintf("%s, change %d", e.Commit, e.Ordinal)
}

// noSource and noEpoch stand in webhook-ids, of which only the bridge's queue knows these parts.
const (
	noSource = "00000000"
	noEpoch  = 1
)

// message is the event as it would be sent.
func (e *event) message() (*webhook.Message, error) {
	id, err := queue.NewID(noEpoch, e.Position, e.n)
	if err != nil {
		return nil, err
	}
	return &webhook.Message{
		ID: cmp.Or(e.id, id.WebhookID(noSource)), Type: e.name, Tenant: e.tenant, Key: e.key, Time: e.time, Sequence: id.Sequence(), Op: e.op.String(),
		Data: e.data, Previous: e.previous, Unchanged: e.unchanged, Errors: e.errors,
	}, nil
}
