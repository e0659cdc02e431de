package control

import (
	"context"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// Actor is who asks. The command line is {cli:<user>, Admin, ""}, a token
// {token:<name>, its role, its tenant}.
type Actor struct {
	Name string
	Role state.Role
	// Tenant limits what it sees and changes to one tenant; empty: no limit.
	Tenant string
}

// EventType is an event that the rules can make.
type EventType struct {
	Event string `json:"event"`
	Title string `json:"title,omitempty"`
	Rule  string `json:"rule"` // file:line
	Table string `json:"table"`
	On    string `json:"on"` // insert, update, delete, truncate
	// Fields are the names at the top of its data, where the rule says them.
	Fields  []string `json:"fields,omitempty"`
	Version string   `json:"version"` // of the rule's text
}

// Slot is how the capture stands at the source.
type Slot struct {
	Name   string `json:"slot"`
	Active bool   `json:"active"` // somebody reads it
	// UnconfirmedBytes is the WAL since the last position that is safe in the
	// queue, HeldBytes what the source keeps on its disk for the slot.
	UnconfirmedBytes int64  `json:"unconfirmed_bytes"`
	HeldBytes        int64  `json:"held_bytes"`
	WALStatus        string `json:"wal_status"`
}

// Page is a part of a list. Next, when there is more, is the cursor of what follows.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// MaxPage is the most items in a page; a smaller limit of 0 means DefaultPage.
const (
	MaxPage     = 500
	DefaultPage = 50
)

// DefaultOverlap is how long the old secret signs beside a new one.
const DefaultOverlap = 24 * time.Hour

// Options are what New needs. What is nil is not there: the operations that
// need it say so.
type Options struct {
	Store *state.Store // nil: no state.key
	Queue *queue.Queue
	// Sender makes the request of a test.
	Sender *webhook.Sender
	// File returns the endpoints of gancho.yaml as they are now.
	File func() []endpoint.Endpoint
	// Catalogue returns the events that the rules make, in the rules' order.
	Catalogue func() []EventType
	// Slot returns how the capture stands. It may take as long as the source does.
	Slot    func(ctx context.Context) (Slot, error)
	Version string
}

// Service carries the operations.
type Service struct {
	Options
}

// New returns a Service.
func New(o Options) *Service { return &Service{o} }
