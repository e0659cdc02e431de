package receiver

import (
	"encoding/json"
	"strings"
	"time"
)

// envelope is a body in format standard.
type envelope struct {
	Type      *string         `json:"type"`
	Timestamp *time.Time      `json:"timestamp"`
	ID        string          `json:"id"`
	Tenant    *string         `json:"tenant"`
	Sequence  string          `json:"sequence"`
	Data      json.RawMessage `json:"data"`
}

// read fills in what the body says and returns the row that it is about, or
// nothing where that cannot be told. A body that is not an envelope with the
// request's own id is taken as bare: data alone.
func (d *Delivery) read() (row string) {
	var e envelope
	if json.Unmarshal(d.Body, &e) != nil || e.Type == nil || e.Timestamp == nil || e.Data == nil || e.ID != d.ID {
		d.Data = d.Body
		return ""
	}
	d.Type, d.Timestamp, d.Sequence, d.Data = *e.Type, *e.Timestamp, e.Sequence, e.Data
	if e.Tenant != nil {
		d.Tenant = *e.Tenant
	}
	d.CommitToArrival = d.Arrived.Sub(d.Timestamp)
	var data struct {
		ID json.RawMessage `json:"id"`
	}
	if json.Unmarshal(e.Data, &data) != nil || data.ID == nil || e.Sequence == "" {
		return ""
	}
	subject := d.Type
	if i := strings.LastIndexByte(subject, '.'); i > 0 {
		subject = subject[:i]
	}
	return d.Tenant + "\x00" + subject + "\x00" + string(data.ID)
}
