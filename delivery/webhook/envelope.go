package webhook

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
)

// Member is what an event has beside its data in a format: a member of the body, or in the
// format cloudevents-binary a header.
type Member struct {
	Name string
	// Required: every event of a rule has it.
	Required bool
}

// Envelope lists the members of the events of rules in a format, the data included where it
// is one of them. It is read from what the format writes, so that it is never otherwise.
func Envelope(f endpoint.Format) []Member {
	least := Message{ID: "00000000-0", Type: "t", Time: time.Unix(0, 0), Sequence: "0", Op: "insert", Data: []byte(`{"a":0}`)}
	most := least
	most.Op = OpTimer
	most.Tenant, most.Previous, most.Unchanged, most.Errors = "t", []byte(`{"a":1}`), []byte(`["b"]`), []byte(`["c"]`)
	always := members(f, &least)
	var out []Member
	for _, name := range members(f, &most) {
		out = append(out, Member{name, slices.Contains(always, name)})
	}
	return out
}

// members are the names of what the format writes of a message, in its order.
func members(f endpoint.Format, m *Message) []string {
	header, body := Draft(&endpoint.Endpoint{Format: f}, m)
	var names []string
	switch f {
	case endpoint.FormatBare, endpoint.FormatChat:
	case endpoint.FormatCloudEventsBinary:
		for name := range header {
			if strings.HasPrefix(name, "Ce-") {
				names = append(names, strings.ToLower(name))
			}
		}
		slices.Sort(names)
	case endpoint.FormatForm:
		for field := range strings.SplitSeq(string(body), "&") {
			name, _, _ := strings.Cut(field, "=")
			name, _, _ = strings.Cut(name, "%5B")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	default:
		names = keys(body)
	}
	return names
}

// keys are those of a JSON object, in its order.
func keys(object []byte) []string {
	d := json.NewDecoder(bytes.NewReader(object))
	_, _ = d.Token() // what a format writes is an object
	var out []string
	for d.More() {
		key, _ := d.Token()
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil
		}
		name, _ := key.(string)
		out = append(out, name)
	}
	return out
}

// Draft returns the body of the request that would carry the message to the endpoint alone,
// and the headers that depend on the format; nothing is sent or signed.
func Draft(ep *endpoint.Endpoint, m *Message) (http.Header, []byte) {
	shape, list := newBodyShape(ep), ep.Batch.Max > 1
	header := http.Header{"Content-Type": {shape.contentType(list)}}
	if ep.Format == endpoint.FormatCloudEventsBinary {
		setStaticCloudHeaders(header, ep)
		shape.setCloudHeaders(header, m)
	}
	return header, shape.append(nil, []*Message{m}, list)
}

// ContentType is that of a request of the endpoint.
func ContentType(ep *endpoint.Endpoint) string {
	shape := newBodyShape(ep)
	return shape.contentType(ep.Batch.Max > 1)
}
