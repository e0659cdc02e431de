package control

import (
	"context"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/state"
	"gancho/mapping"
)

// Actor is who asks. The command line is {cli:<user>, Admin, ""}, a token
// {token:<name>, its role, its tenant}.
type Actor struct {
	Name string
	Role state.Role
	// Tenant limits what it sees and changes to one tenant; empty: no limit.
	Tenant string
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

// The default and the bound of [Rotation.Overlap].
const (
	DefaultOverlap = 24 * time.Hour
	MaxOverlap     = 90 * 24 * time.Hour
)

// Options are what New needs. Operations that need what is nil return an error.
type Options struct {
	Store *state.Store // nil: no state.key
	Queue *queue.Queue
	// Sender makes the request of a test.
	Sender *webhook.Sender
	// File returns the endpoints of gancho.yaml as they are now.
	File func() []endpoint.Endpoint
	// Catalogue returns the events that the rules make, in the rules' order.
	Catalogue func() []mapping.EventType
	// Slot reads the slot at the source, which may take long to answer.
	Slot    func(ctx context.Context) (Slot, error)
	Version string
}

// Service carries the operations.
type Service struct {
	Options
}

// New returns a Service.
func New(o Options) *Service { return &Service{o} }
