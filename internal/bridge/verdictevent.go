package bridge

import (
	"slices"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/control"
)

// answerEvent is answer for the event of a webhook-id: the change that it is of, and those of the row after it. Without changes: it is not remembered,
// or of another source or epoch.
func (v *verdicts) answerEvent(q control.WhyQuestion, webhookID func(cdc.Position, int) (string, error)) (control.WhyView, error) {
	known, now := v.named()
	out := v.emptyAnswer()
	out.WebhookID, out.KeyColumns = q.WebhookID, []string{}
	_, id, err := queue.ParseWebhookID(q.WebhookID)
	if err != nil {
		return out, nil //nolint:nilerr // it is no event of a change
	}
	position := id.Position()
	if made, err := webhookID(position, id.N()); err != nil || made != q.WebhookID {
		return out, err
	}
	at := place{uint64(position.Commit), position.Ordinal}
	here := func(r *verdictRecord) bool { return place{r.commit, r.ordinal} == at }
	var row *verdictRecord // the first with its key: an update that changed the key has a record with the old one behind it
	v.all(func(r *verdictRecord) {
		if row == nil && here(r) && r.key != 0 {
			copied := *r
			row = &copied
		}
	})
	changes := v.find(v.tenantOf(q), func(r *verdictRecord) bool {
		return here(r) || row != nil && r.table == row.table && r.key == row.key
	})
	from := slices.IndexFunc(changes, func(c remembered) bool { return c.place == at })
	if from < 0 {
		return out, nil
	}
	changes = changes[from:min(len(changes), from+control.MaxWhyChanges)]
	for i := range now.texts {
		if t := &now.texts[i]; t.OID == changes[0].table {
			out.Table = t.Table.String()
		}
	}
	if err := v.tellAll(&out, changes, &known, webhookID); err != nil {
		return out, err
	}
	if !slices.ContainsFunc(out.Changes[0].Rules, func(r control.WhyRule) bool { return r.WebhookID == q.WebhookID }) {
		out.Changes = []control.WhyChange{}
	}
	return out, nil
}
