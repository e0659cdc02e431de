package bridge

import (
	"sync"
	"sync/atomic"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/mail"
	"gancho/internal/state"
	"gancho/internal/tracing"
)

// house is what a process has once, whatever the number of its sources.
type house struct {
	traces     traces
	supervised *supervision

	mu          sync.Mutex
	definitions *Definitions // guarded by mu
	trying      sync.Mutex   // held while an edited copy of rules is tried

	roster    *roster
	applying  sync.Mutex // one change of the endpoints at a time
	endpoints atomic.Pointer[[]*endpoint.Endpoint]

	sender    *webhook.Sender
	consoleAt string // the origin of the console; empty: there is none

	// directory has the stored endpoints, for the dispatcher and for the API; nil without a state.
	directory *state.Directory
	// The store over pools of their own: what the API asks, jobs, the log's writer, backlogs
	// that overflow and the look-up of tokens do not wait for each other.
	jobStore, apiStore, tokenStore, consoleStore, overflowStore *state.Store
	// stateComplaint is about the database, recordComplaint about what goes there.
	stateComplaint, recordComplaint complaint
	mails                           chan mail.Message // that were not sent yet
	excesses                        excesses
	measuringQueues                 sync.Mutex // one measureQueues at a time

	fleet *fleet // the sources, when there are several; nil: there is one, the bridge's own
}

func newHouse(o *Options, d *Definitions) *house {
	h := &house{
		definitions: d, traces: traces{tracing.New(tracing.Options{})}, roster: newRoster(o.Log), mails: make(chan mail.Message, maxMails),
		stateComplaint: complaint{
			log: o.Log, failed: "state database unreachable; endpoints stay as they are, and deliveries continue", again: "state database reachable again",
		},
		recordComplaint: complaint{
			log: o.Log, failed: "log and dead letters cannot be stored; they wait in redis, and deliveries continue", again: "log and dead letters are stored again",
		},
	}
	h.excesses.wake, h.excesses.due = make(chan struct{}, 1), make(chan struct{}, 1)
	h.roster.setFile(d.Endpoints)
	return h
}
