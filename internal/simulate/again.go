package simulate

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// The webhook-id of an event that is sent again by other rules is the one which it follows, and -cNNNN-HASH or -nNNNN-HASH:
// a correction of that event, or another of its change, which was not sent before. The number rises, so that the ids and
// the sequences of what follows one event are in the order in which they were made. The hash is of what it says.
const (
	markCorrection = 'c'
	markNew        = 'n'

	idParts    = 5 // of an event's id
	hashDigits = 16
)

// againID is such an id.
type againID struct {
	cdc.Position
	follows string
	mark    byte
	number  int
}

func parseAgain(text string) (againID, bool) {
	parts := strings.Split(text, "-")
	n := len(parts) - 2
	if n < idParts || (n-idParts)%2 != 0 || len(parts[n]) < 2 || len(parts[n+1]) != hashDigits {
		return againID{}, false
	}
	out := againID{follows: strings.Join(parts[:n], "-"), mark: parts[n][0]}
	number, err := strconv.ParseUint(parts[n][1:], 16, 31)
	_, first, bad := queue.ParseWebhookID(strings.Join(parts[:idParts], "-"))
	out.Position, out.number = first.Position(), int(number)
	return out, err == nil && bad == nil && (out.mark == markCorrection || out.mark == markNew)
}

// SentAgain reports whether a webhook-id is that of an event that was sent again by other rules. Its change is kept beside
// the first one.
func SentAgain(webhookID string) bool {
	_, is := parseAgain(webhookID)
	return is
}

// sentAgain takes what was sent again: a correction stands for the event from now on. Those of changes that are not
// compared are left out.
func (c *SentChanges) sentAgain(e *event, id againID) {
	if len(c.was) == 0 || c.was[len(c.was)-1].Position != id.Position {
		return
	}
	e.Position = id.Position
	i := slices.IndexFunc(c.was, func(of event) bool { return of.id == id.follows })
	switch {
	case i >= 0 && id.mark == markCorrection:
		e.id, e.n, e.corrections, e.others = id.follows, c.was[i].n, id.number, c.was[i].others
		c.was[i] = *e
		return
	case i >= 0:
		c.was[i].others = id.number
	}
	c.was = append(c.was, *e)
}

// again is an event as it is sent again: a correction of the one that was sent, or with nil another one of the change.
func (c *SentChanges) again(was, now *event) *webhook.Message {
	mark, of := markCorrection, was
	var number int
	if was != nil {
		number = was.corrections + 1
	} else {
		mark, of = markNew, &c.was[slices.IndexFunc(c.was, func(e event) bool { return e.Position == now.Position })]
		of.others++
		number = of.others
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(now.name), []byte(now.tenant), []byte(now.key), now.data, now.previous, now.unchanged, now.errors} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part))) // a hash never fails
		_, _ = h.Write(part)
	}
	id := fmt.Sprintf("%s-%c%04x-%s", of.id, mark, number, hex.EncodeToString(h.Sum(nil))[:hashDigits])
	m := &webhook.Message{
		ID: id, Type: now.name, Tenant: now.tenant, Key: now.key, Time: now.time, Sequence: id[webhook.SourceDigits+1:], Op: now.op.String(),
		Data: now.data, Previous: now.previous, Unchanged: now.unchanged, Errors: now.errors, Version: now.version,
	}
	if len(now.tags) > 0 {
		_ = json.Unmarshal(now.tags, &m.Tags) // an array of texts, as mapping has written it
	}
	return m
}
