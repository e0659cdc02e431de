package receiver

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// envelope is what a body says of an event: in format standard, and as a
// CloudEvent.
type envelope struct {
	SpecVersion string          `json:"specversion"` // of CloudEvents
	Type        *string         `json:"type"`
	Timestamp   *time.Time      `json:"timestamp"`
	Time        *time.Time      `json:"time"` // CloudEvents' name for it
	ID          string          `json:"id"`
	Tenant      *string         `json:"tenant"`
	Sequence    string          `json:"sequence"`
	Data        json.RawMessage `json:"data"`

	body []byte // the event's part of the request's
	list int    // how many the request has a list of; 0: it has none
}

// event is one that arrived, and the row that it is about: empty where that
// is not known.
type event struct {
	Delivery
	row string
}

// read returns the events of a request: one, or those of its list. A body that
// is in no known format, or has another id than the request, is read as
// bare: data alone.
func read(header http.Header, body []byte, arrived time.Time) []event {
	all := parse(header, body)
	whole := Delivery{ID: header.Get("webhook-id"), Body: body, Data: body, Arrived: arrived}
	switch {
	case len(all) == 1 && all[0].ID == whole.ID:
	case len(all) > 1 && strings.HasPrefix(whole.ID, "list-"):
	default:
		return []event{{Delivery: whole}}
	}
	events := make([]event, len(all))
	for i := range all {
		e, d := &all[i], whole
		d.ID, d.Type, d.Timestamp, d.Sequence, d.Data, d.Body = e.ID, *e.Type, *e.Timestamp, e.Sequence, e.Data, e.body
		if e.Tenant != nil {
			d.Tenant = *e.Tenant
		}
		d.List, d.CommitToArrival = e.list, arrived.Sub(d.Timestamp)
		events[i] = event{d, row(&d)}
	}
	return events
}

// parse returns nothing when the request is in none of the formats that say
// what they hold.
func parse(header http.Header, body []byte) []envelope {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	cloud := err == nil && strings.HasPrefix(kind, "application/cloudevents")
	var parts []json.RawMessage
	list := 0
	switch {
	case kind == "application/x-www-form-urlencoded":
		return complete(formEnvelope(body))
	case !cloud && header.Get("ce-specversion") != "":
		return complete(binaryEnvelope(header, body))
	case !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")):
		parts = []json.RawMessage{body}
	default:
		parts = elements(body)
		list = len(parts)
	}
	all := make([]envelope, len(parts))
	for i, part := range parts {
		e := &all[i]
		if json.Unmarshal(part, e) != nil || cloud != (e.SpecVersion != "") {
			return nil
		}
		if e.body, e.list = part, list; cloud {
			e.Timestamp = e.Time
		}
	}
	return complete(all...)
}

// maxList is the longest list that is sent. Others are not split: a body of
// commas would take the memory of a hundred.
const maxList = 10_000

// elements splits a JSON array; nil: it is none, or too long.
func elements(body []byte) []json.RawMessage {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if _, err := decoder.Token(); err != nil { // the bracket
		return nil
	}
	var all []json.RawMessage
	for decoder.More() {
		var one json.RawMessage
		if decoder.Decode(&one) != nil || len(all) == maxList {
			return nil
		}
		all = append(all, one)
	}
	if !json.Valid(body) { // it may lack its end, or have something behind it
		return nil
	}
	return all
}

// complete returns nothing when an envelope lacks what all have.
func complete(all ...envelope) []envelope {
	for _, e := range all {
		if e.Type == nil || e.Timestamp == nil || e.Data == nil {
			return nil
		}
	}
	return all
}

// binaryEnvelope reads a CloudEvent whose attributes are headers.
func binaryEnvelope(header http.Header, body []byte) envelope {
	text := func(name string) string {
		encoded := header.Get("ce-" + name)
		if decoded, err := url.PathUnescape(encoded); err == nil {
			return decoded
		}
		return encoded
	}
	kind, tenant := text("type"), text("tenant")
	e := envelope{Type: &kind, ID: text("id"), Tenant: &tenant, Sequence: text("sequence"), Data: body, body: body}
	if at, err := time.Parse(time.RFC3339, text("time")); err == nil {
		e.Timestamp = &at
	}
	return e
}

// row names the row that the event is about.
func row(d *Delivery) string {
	var data struct {
		ID json.RawMessage `json:"id"`
	}
	if json.Unmarshal(d.Data, &data) != nil || data.ID == nil || d.Sequence == "" {
		return ""
	}
	subject := d.Type
	if i := strings.LastIndexByte(subject, '.'); i > 0 {
		subject = subject[:i]
	}
	return d.Tenant + "\x00" + subject + "\x00" + string(data.ID)
}
