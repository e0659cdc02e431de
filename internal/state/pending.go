package state

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"gancho/delivery"
)

var errPending = errors.New("not written yet")

// Options are what a Store needs.
type Options struct {
	DSN     string
	Keyring *Keyring
	Logger  zerolog.Logger
}

// Store is the state in PostgreSQL. It is safe for concurrent use.
type Store struct{}

// Keyring are the keys of state.key: the first seals, all open.
type Keyring struct{}

// ParseKeys reads state.key: <id>:<base64 of 32 bytes>, several separated by
// commas, or one bare base64 key, whose id is 1.
func ParseKeys(text string) (*Keyring, error) { return nil, errPending }

// GenerateKey returns a new key as <id>:<base64>, as ParseKeys reads it.
func GenerateKey(id string) (string, error) { return "", errPending }

// Open connects and checks the schema: ErrUnreachable, ErrSchema.
func Open(ctx context.Context, o Options) (*Store, error) { return nil, errPending }

// Close closes the connections. Nothing may be in progress.
func (s *Store) Close() {}

// Endpoints are all stored endpoints by name.
func (s *Store) Endpoints(ctx context.Context) ([]Endpoint, error) { return nil, errPending }

// Endpoint reads one, or ErrNotFound.
func (s *Store) Endpoint(ctx context.Context, name string) (Endpoint, error) {
	return Endpoint{}, errPending
}

// AddEndpoint stores a new endpoint with its secrets, the newest first.
func (s *Store) AddEndpoint(ctx context.Context, actor string, e Endpoint, secrets []delivery.Secret) (Endpoint, error) {
	return Endpoint{}, errPending
}

// UpdateEndpoint stores tenants, state, document and public of the endpoint of
// that name: ErrConflict when its Version is not e's.
func (s *Store) UpdateEndpoint(ctx context.Context, actor string, e Endpoint) (Endpoint, error) {
	return Endpoint{}, errPending
}

// SetEndpointState activates, pauses or deactivates it.
func (s *Store) SetEndpointState(ctx context.Context, actor, name string, to delivery.State) (Endpoint, error) {
	return Endpoint{}, errPending
}

// RemoveEndpoint deletes it; dropQueue also asks the bridge to drop its queue.
func (s *Store) RemoveEndpoint(ctx context.Context, actor, name string, dropQueue bool) error {
	return errPending
}

// Drops are the endpoints whose queues are to be dropped.
func (s *Store) Drops(ctx context.Context) ([]string, error) { return nil, errPending }

// Dropped says that the queue has been dropped.
func (s *Store) Dropped(ctx context.Context, name string) error { return errPending }

// RotateSecret adds a secret; those before it stop after the overlap.
func (s *Store) RotateSecret(ctx context.Context, actor, name string, secret delivery.Secret, overlap time.Duration) (Endpoint, error) {
	return Endpoint{}, errPending
}

// Rekey seals everything with the first key, in one transaction, and returns
// how many values were sealed with another.
func (s *Store) Rekey(ctx context.Context, actor string) (int, error) { return 0, errPending }

// Watch calls changed whenever Endpoints may give another answer.
func (s *Store) Watch(ctx context.Context, changed func()) error { return errPending }

// CreateToken makes a token of t's Name, Role, Tenant and Expires, and returns
// it with its text, which is kept nowhere. A name that is taken: ErrConflict.
func (s *Store) CreateToken(ctx context.Context, actor string, t Token) (Token, string, error) {
	return Token{}, "", errPending
}

// Tokens are all tokens by name.
func (s *Store) Tokens(ctx context.Context) ([]Token, error) { return nil, errPending }

// RevokeToken deletes a token, or ErrNotFound.
func (s *Store) RevokeToken(ctx context.Context, actor, name string) error { return errPending }

// Authenticate returns the token with this text, unless it has expired: ErrNotFound.
func (s *Store) Authenticate(ctx context.Context, text string) (Token, error) {
	return Token{}, errPending
}

// AuditFilter chooses entries of the audit log; empty parts choose all.
type AuditFilter struct {
	Tenant         *string
	Object, Action string
	From, To       time.Time
}

// Audit returns up to n entries, the newest first, before an id (0: from the newest).
func (s *Store) Audit(ctx context.Context, f AuditFilter, before int64, n int) ([]Change, error) {
	return nil, errPending
}

// Record writes an audit entry for what has no row here, such as a file
// endpoint that is activated again. ID and Time are the store's.
func (s *Store) Record(ctx context.Context, c Change) error { return errPending }

// WriteAttempts writes rows of the log; those that are there already stay.
func (s *Store) WriteAttempts(ctx context.Context, rows []Attempt) error { return errPending }

// WriteEvents keeps events; those that are there already stay.
func (s *Store) WriteEvents(ctx context.Context, events []KeptEvent) error { return errPending }

// WriteDead writes dead letters, whose ID is the store's; those with an endpoint and handle
// that are there already stay.
func (s *Store) WriteDead(ctx context.Context, dead []DeadLetter) error { return errPending }

// Attempts returns up to n rows, the newest first, from a cursor ("": the
// newest); next is "" when there are no more.
func (s *Store) Attempts(ctx context.Context, f Filter, cursor string, n int) (page []Attempt, next string, err error) {
	return nil, "", errPending
}

// DeadLetters returns up to n dead letters, the oldest first, with an ID above after.
func (s *Store) DeadLetters(ctx context.Context, f Filter, after int64, n int) ([]DeadLetter, error) {
	return nil, errPending
}

// DeadLetter reads one; tenant "": any. ErrNotFound.
func (s *Store) DeadLetter(ctx context.Context, id int64, tenant string) (DeadLetter, error) {
	return DeadLetter{}, errPending
}

// CountDead counts dead letters.
func (s *Store) CountDead(ctx context.Context, f Filter) (int64, error) { return 0, errPending }

// DropDead deletes dead letters that exist now and returns how many.
func (s *Store) DropDead(ctx context.Context, actor string, f Filter) (int64, error) {
	return 0, errPending
}

// CountEvents counts kept events.
func (s *Store) CountEvents(ctx context.Context, f Filter) (int64, error) { return 0, errPending }

// JobPage is a job's next events.
type JobPage struct {
	Messages []delivery.Message
	// Last: nothing follows.
	Last bool
}

// CreateJob stores a job of j's Kind, Endpoint, Filter, Rate and Tenant with its Total.
func (s *Store) CreateJob(ctx context.Context, actor string, j Job) (Job, error) {
	return Job{}, errPending
}

// Jobs returns up to n jobs of a tenant ("": all), the newest first, before an id (0: from the newest).
func (s *Store) Jobs(ctx context.Context, tenant string, before int64, n int) ([]Job, error) {
	return nil, errPending
}

// Job reads one; tenant "": any. ErrNotFound.
func (s *Store) Job(ctx context.Context, id int64, tenant string) (Job, error) {
	return Job{}, errPending
}

// CancelJob stops a job that is not over: ErrNotFound, ErrConflict.
func (s *Store) CancelJob(ctx context.Context, actor string, id int64, tenant string) (Job, error) {
	return Job{}, errPending
}

// ClaimJob takes the oldest job that waits or whose worker's lease has run
// out; nil: there is none.
func (s *Store) ClaimJob(ctx context.Context, worker string, lease time.Duration) (*Job, error) {
	return nil, errPending
}

// JobPage reads up to n events from the job's cursor on.
func (s *Store) JobPage(ctx context.Context, j *Job, n int) (JobPage, error) {
	return JobPage{}, errPending
}

// AdvanceJob writes down that the page has been sent (for a redrive its dead
// letters are deleted in the same transaction) and renews the lease; a page
// without messages only renews. ErrConflict: the job was canceled or somebody
// else has it; leave it.
func (s *Store) AdvanceJob(ctx context.Context, j *Job, p JobPage) error { return errPending }

// FinishJob ends a claimed job as Done or Failed, or gives it back as Queued.
func (s *Store) FinishJob(ctx context.Context, j *Job, to JobState, why string) error {
	return errPending
}

// Maintain makes the partitions of the days to come, drops those that are
// older than what is kept, and forgets finished jobs and expired secrets.
func (s *Store) Maintain(ctx context.Context, keepEvents, keepLog time.Duration) error {
	return errPending
}
