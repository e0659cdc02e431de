package control

import (
	"maps"
	"slices"
	"strings"

	"gancho/delivery/endpoint"
)

// ComplaintKind is what is not in order.
type ComplaintKind string

// The kinds of complaints.
const (
	PartFails         ComplaintKind = "part"     // a part does not answer, or says what is wrong; the subject is its name
	Hazardous         ComplaintKind = "hazard"   // statements of the application fail, or rows are invisible
	SlotUnread        ComplaintKind = "unread"   // no process reads the slot
	MemoryNearlyFull  ComplaintKind = "memory"   // of Redis
	OverItsQuota      ComplaintKind = "quota"    // a backlog is
	EndpointUnusable  ComplaintKind = "unusable" // the subject of this and the following is the endpoint
	EndpointSuspended ComplaintKind = "suspended"
	EndpointBlocked   ComplaintKind = "blocked"
	EndpointFailing   ComplaintKind = "failing"
	ClosingIncomplete ComplaintKind = "closing" // the endpoint's newest
	// ScheduleFails: a run fails, or rows of the last have no event; the subject is the event.
	ScheduleFails ComplaintKind = "schedule"
)

// Complaint is something that is not in order.
type Complaint struct {
	Kind    ComplaintKind
	Subject string // a part or an endpoint; empty: there is one only
	Detail  string // more about it, in English; empty: the kind says it all
}

// String is it in a few words.
func (c Complaint) String() string {
	switch c.Kind {
	case PartFails:
		return c.Subject
	case Hazardous:
		return "hazards"
	case SlotUnread:
		return "the slot is read by no process"
	case MemoryNearlyFull:
		return "redis is nearly full"
	case OverItsQuota:
		return "a backlog is over its quota"
	case ClosingIncomplete:
		return "the newest closing of endpoint " + c.Subject + " is incomplete"
	case ScheduleFails:
		return "the schedule of " + c.Subject + " is in trouble"
	}
	return "endpoint " + c.Subject + " is " + string(c.Kind)
}

// Complaints are what is not in order, the worst first.
func (v *StatusView) Complaints() []Complaint {
	var out []Complaint
	add := func(kind ComplaintKind, subject, detail string) {
		out = append(out, Complaint{Kind: kind, Subject: subject, Detail: detail})
	}
	for _, part := range slices.Sorted(maps.Keys(v.Errors)) {
		add(PartFails, part, v.Errors[part])
	}
	if len(v.Hazards) > 0 {
		add(Hazardous, "", strings.Join(v.Hazards, "\n"))
	}
	if v.Slot != nil && !v.Slot.Active && v.Source == "" {
		add(SlotUnread, "", "")
	}
	if m := v.Memory; m != nil && m.Max > 0 && float64(m.Used) > nearlyFull*float64(m.Max) {
		add(MemoryNearlyFull, "", "")
	}
	if len(v.OverQuota) > 0 {
		add(OverItsQuota, "", strings.Join(v.OverQuota, "\n"))
	}
	for i := range v.Schedules {
		if trouble := v.Schedules[i].Trouble(); trouble != "" {
			add(ScheduleFails, v.Schedules[i].Event, trouble)
		}
	}
	for i := range v.Endpoints {
		e := &v.Endpoints[i]
		if kind, detail := e.Complaint(); kind != "" {
			add(kind, e.Name, detail)
		}
		if e.Live != nil && e.Live.Closing != nil {
			add(ClosingIncomplete, e.Name, e.Live.Closing.Text())
		}
	}
	return out
}

// Complaint is what is not in order with the endpoint, "" when nothing is.
func (e *EndpointView) Complaint() (kind ComplaintKind, detail string) {
	switch {
	case e.Problem != "":
		return EndpointUnusable, e.Problem
	case e.State != endpoint.Active.String() || e.Live == nil:
		return "", ""
	case e.Live.Reason != "":
		return EndpointSuspended, e.Live.Reason
	case e.Live.Blocked > 0:
		return EndpointBlocked, ""
	case !e.Live.Failing.IsZero():
		return EndpointFailing, ""
	}
	return "", ""
}
