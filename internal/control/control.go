package control

import (
	"context"
	"encoding/json"
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

// Spec is an endpoint's document, understood.
type Spec struct {
	// Endpoint has everything that the document says; Name, State and Secrets
	// are empty when it says nothing about them.
	Endpoint endpoint.Endpoint
	// Document is the same in its canonical form: a JSON object with what
	// differs from the defaults, without name, state and secrets.
	Document json.RawMessage
	// Public is Document with *** for every value that is a secret.
	Public json.RawMessage
}

// Parse reads an endpoint's document: JSON or YAML with the keys of an endpoint
// in gancho.yaml, of which name, state, secret and secrets may be missing. It
// replaces no ${VARIABLES}: documents come from people who may not read this
// process's environment. Mistakes are strictyaml.Errors under the origin.
type Parse func(origin string, document []byte) (Spec, error)

// FileEndpoint is an endpoint of gancho.yaml.
type FileEndpoint struct {
	Spec
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
	Parse  Parse
	// File returns the endpoints of gancho.yaml as they are now.
	File func() []FileEndpoint
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
