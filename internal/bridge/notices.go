package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// The operational events, which go to the endpoints that subscribe to gancho.*.
const (
	eventPaused     = "gancho.endpoint.paused"
	eventFailing    = "gancho.endpoint.failing"
	eventBacklog    = "gancho.endpoint.backlog"
	eventRecovered  = "gancho.endpoint.recovered"
	eventParked     = "gancho.parked"
	eventDeadLetter = "gancho.dead_letter"
	eventLagging    = "gancho.slot.lagging"
	eventGap        = "gancho.table.gap"
	eventQuota      = "gancho.quota.exceeded"
	eventExpiring   = "gancho.expiring"
	eventClosing    = "gancho.closing" // to the endpoint whose setting asks for it, alone
)

// notify makes an operational event of what the dispatcher noticed. An error
// makes the dispatcher notice again.
func (b *bridge) notify(ctx context.Context, n dispatch.Notice) error {
	var name, stage string
	var data any
	switch n.Kind {
	case dispatch.NoticeFailing:
		f, err := b.failing(ctx, &n)
		if err != nil {
			return err
		}
		name, data, stage = eventFailing, f, fmt.Sprint(" ", n.Stage)
		n.WebhookID = "" // the event is about the endpoint
	case dispatch.NoticePaused:
		name = eventPaused
		data = struct {
			Endpoint string    `json:"endpoint"`
			Reason   string    `json:"reason"`
			Since    time.Time `json:"since"`
		}{n.Endpoint, n.Reason, n.Since.UTC()}
	case dispatch.NoticeRecovered:
		name = eventRecovered
		data = struct {
			Endpoint string    `json:"endpoint"`
			Since    time.Time `json:"since"`
		}{n.Endpoint, n.Since.UTC()}
	case dispatch.NoticeDeadLetter:
		if b.recorder != nil {
			b.recorder.mark(n.Endpoint)
		}
		if strings.HasPrefix(n.Event, queue.OperationalPrefix) {
			return nil // a receiver that fails at these would get them without end
		}
		name = eventDeadLetter
		data = struct {
			Endpoint  string `json:"endpoint"`
			Event     string `json:"event"`
			WebhookID string `json:"webhook_id"`
			Reason    string `json:"reason"`
			Attempts  int    `json:"attempts"`
		}{n.Endpoint, n.Event, n.WebhookID, n.Reason, n.Attempts}
	default:
		return nil
	}
	tenants := b.tenantsOf(n.Endpoint)
	if n.Kind == dispatch.NoticeDeadLetter && n.Tenant != "" {
		tenants = []string{n.Tenant}
	}
	// A notice that is repeated makes the same event.
	return b.announce(ctx, name, n.Endpoint, tenants, n.Since.Format(time.RFC3339Nano)+n.WebhookID+stage, data)
}

// tenantsOf are the tenants that an endpoint is limited to.
func (b *bridge) tenantsOf(endpoint string) []string {
	for _, e := range b.endpointsNow() {
		if e.Name == endpoint {
			return e.Tenants
		}
	}
	return nil
}

// announce queues an operational event for its subscribers. The tenants are
// those that it is about; an endpoint gets no event about its own trouble, which would
// add to it. People are told, too.
func (b *bridge) announce(ctx context.Context, name, about string, tenants []string, identity string, data any) error {
	endpoints := b.endpointsNow()
	to := slices.DeleteFunc(queue.Subscribed(endpoints, name, tenants...), func(e string) bool {
		return e == about && slices.Contains([]string{eventPaused, eventFailing, eventBacklog}, name)
	})
	body, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", name, err)
	}
	if len(to) == 0 {
		b.mail(name, about, tenants, body)
		return nil
	}
	m := webhook.Message{ID: operationalID(name, about, identity), Type: name, Key: about, Time: time.Now(), Data: body}
	if len(tenants) == 1 {
		m.Tenant = tenants[0]
	}
	if err := b.queue.Announce(ctx, to, m); err != nil {
		return err
	}
	b.metrics.notices.WithLabelValues(name).Inc()
	b.mail(name, about, tenants, body)
	return nil
}

// operationalID is the webhook-id of an operational event: the same of one that is repeated.
func operationalID(name, about, identity string) string {
	digest := sha256.Sum256([]byte(name + "\x00" + about + "\x00" + identity))
	return "gancho-" + hex.EncodeToString(digest[:16])
}

// lagAgain is how long a slot that lags is not announced again, whether it
// lags on or crosses the threshold to and fro.
const lagAgain = time.Hour

// announceLag queues an event for whoever subscribes to a lagging slot.
func (b *bridge) announceLag(ctx context.Context, lag cdc.Slot) {
	b.announcing.Lock()
	defer b.announcing.Unlock()
	urgent := lag.WALStatus == "unreserved" || lag.WALStatus == "lost"
	if lag.HeldBytes <= b.LagWarning && !urgent || time.Since(b.lagAnnounced) < lagAgain {
		return
	}
	var age time.Duration
	if b.capture != nil {
		age = b.capture.lagAge()
	}
	err := b.announce(ctx, eventLagging, b.Source.Slot, nil, time.Now().Format(time.RFC3339Nano), struct {
		Slot       string `json:"slot"`
		HeldBytes  int64  `json:"held_bytes"`
		LagSeconds int64  `json:"lag_seconds"`
	}{b.Source.Slot, lag.HeldBytes, int64(age.Seconds())})
	if err != nil {
		b.Log.Warn().Err(err).Msg("event about the slot's lag could not be queued; trying again")
		return
	}
	b.lagAnnounced = time.Now()
}
