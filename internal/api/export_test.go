package api

import (
	"net/http"
	"strconv"
	"testing"
	"time"
)

// Route is what the tests hold against openapi.yaml.
type Route struct {
	Method, Path, Role string
	Query, Media       []string
}

// Routes are those of the handler.
func Routes() []Route {
	var all []Route
	for _, r := range routes() {
		all = append(all, Route{Method: r.method, Path: r.path, Role: string(r.role), Query: r.query, Media: r.media})
	}
	return all
}

// Describe is the OpenAPI document.
var Describe = describe

// The bounds of what the gate remembers.
const (
	RememberedAddresses = rememberedAddresses
	FailureBurst        = failureBurst
)

// Problems are the kinds of problems with their statuses.
func Problems() map[string]string {
	all := map[string]string{}
	for _, k := range []kind{
		kindInvalid, kindUnauthorized, kindForbidden, kindNotFound, kindMethod, kindConflict, kindReadOnly, kindChanged, kindTooLarge,
		kindMediaType, kindElsewhere, kindThrottled, kindBusy, kindQuota, kindSlow, kindInternal, kindUnavailable,
	} {
		all[k.name] = strconv.Itoa(k.status)
	}
	return all
}

// Turns are the order of statements that may read very many rows.
type Turns struct{ *turns }

// Turn is that of one statement.
type Turn struct{ *turn }

// NewTurns returns turns by a clock.
func NewTurns(now func() time.Time) Turns { return Turns{newTurns(now)} }

// Ask queues a statement, End ends one.
func (t Turns) Ask(whose string, tenant bool) Turn { return Turn{t.ask(whose, tenant)} }

// Begin says that a granted turn's statement begins.
func (t Turns) Begin(granted Turn) { t.begin(granted.turn) }

// End ends a turn.
func (t Turns) End(ended Turn) { t.end(ended.turn) }

// Owners is how many owners are remembered.
func (t Turns) Owners() int { return len(t.owners) }

// Granted reports whether the statement may run.
func (t Turn) Granted() bool {
	select {
	case <-t.granted:
		return true
	default:
		return false
	}
}

// The bounds of turns.
const (
	GreedyTime       = greedyTime
	GreedyStatements = greedyStatements
	TurnTime         = turnTime
)

// Scan reads all queues, for the handler's requests, until end is called.
func Scan(t testing.TB, h http.Handler) (end func()) {
	t.Helper()
	end, err := h.(*Handler).erasing.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// Impatient has requests give up at once that wait to read all queues.
func Impatient(h http.Handler) { h.(*Handler).erasing.patience = 1 }

// StopClock has failed logins of the handler all be at the same moment.
func StopClock(h http.Handler) {
	now := time.Now()
	h.(*Handler).gate.now = func() time.Time { return now }
}
