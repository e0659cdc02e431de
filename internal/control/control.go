package control

import (
	"context"
	"time"

	"gancho/cdc"
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
	Slot    func(ctx context.Context) (cdc.Slot, error)
	Version string
}

// Service carries the operations.
type Service struct {
	Options
}

// New returns a Service.
func New(o Options) *Service { return &Service{o} }
