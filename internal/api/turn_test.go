package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"gancho/internal/api"
	"gancho/internal/control"
	"gancho/internal/state"
)

// load is what somebody asks for: statements that take so long, so many at once, and the
// next ones a pause after each.
type load struct {
	name        string
	tenant      bool
	cost, pause time.Duration
	atOnce      int
}

// served is how a load fared.
type served struct {
	statements    int
	longest, last time.Duration // waits: of all, and of those after the first half
}

// play lets the loads ask for the given time, of a clock that only the test moves.
func play(t *testing.T, length time.Duration, loads ...load) map[string]*served {
	t.Helper()
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	now := start
	turns := api.NewTurns(func() time.Time { return now })
	type statement struct {
		load
		at    time.Time // when it is asked for, and then when it ends
		asked time.Time
		turn  *api.Turn
		runs  bool
	}
	var all []*statement
	out := map[string]*served{}
	for _, l := range loads {
		out[l.name] = &served{}
		for range l.atOnce {
			all = append(all, &statement{load: l, at: start})
		}
	}
	for now.Before(start.Add(length)) {
		var next *statement
		for _, s := range all {
			if (s.runs || s.turn == nil) && (next == nil || s.at.Before(next.at)) {
				next = s
			}
		}
		if next == nil {
			t.Fatal("statements wait, and none runs")
		}
		now = next.at
		if next.runs {
			turns.End(*next.turn)
			next.turn, next.runs, next.at = nil, false, now.Add(next.pause)
		} else {
			asked := turns.Ask(next.name, next.tenant)
			next.turn, next.asked = &asked, now
		}
		running := map[string]int{}
		n := 0
		for _, s := range all {
			if s.turn != nil && !s.runs && s.turn.Granted() {
				s.runs, s.at = true, now.Add(s.cost)
				wait, o := now.Sub(s.asked), out[s.name]
				o.statements++
				o.longest = max(o.longest, wait)
				if now.Sub(start) > length/2 {
					o.last = max(o.last, wait)
				}
			}
			if s.runs {
				n++
				if running[s.name]++; running[s.name] > 1 {
					t.Fatalf("%s has %d statements at once", s.name, running[s.name])
				}
			}
		}
		if n > api.HeavyStatements {
			t.Fatalf("%d statements at once", n)
		}
	}
	return out
}

// Tenants that ask for as much as they may, all the time, do not slow down another, nor the
// operator, who ask for little; and among each other they get the same.
func TestGreedyTenantsWaitForEachOther(t *testing.T) {
	t.Parallel()
	const timeout, length = 20 * time.Second, 2 * time.Hour
	frugal := []load{
		{"fourth", true, 100 * time.Millisecond, 2 * time.Second, 1},
		{"operator", false, 100 * time.Millisecond, 2 * time.Second, 1},
	}
	alone := play(t, length, frugal...)
	for _, greedy := range []int{3, 40} {
		loads := frugal
		for i := range greedy {
			loads = append(loads, load{fmt.Sprint("greedy ", i), true, timeout, 0, api.DefaultRequests})
		}
		beside := play(t, length, loads...)
		for _, l := range frugal {
			if got, want := beside[l.name], alone[l.name]; got.last != want.last || got.statements < want.statements*95/100 {
				t.Errorf("beside %d greedy tenants the %s has %d statements and waits up to %s, alone %d and %s", greedy, l.name, got.statements, got.last, want.statements, want.last)
			}
			// Before they are known to be greedy, a statement of each may be in the way.
			if got := beside[l.name].longest; greedy == 3 && got > timeout {
				t.Errorf("beside %d greedy tenants the %s once waits for %s", greedy, l.name, got)
			}
		}
		least, most, longest := int(length), 0, time.Duration(0)
		for _, l := range loads[len(frugal):] {
			o := beside[l.name]
			least, most, longest = min(least, o.statements), max(most, o.statements), max(longest, o.last)
		}
		if most-least > 2 {
			t.Errorf("of %d greedy tenants one has %d statements, another %d", greedy, least, most)
		}
		// Each of the requests that a tenant has in flight waits for its others, too.
		round := time.Duration((greedy+api.GreedyStatements-1)/api.GreedyStatements) * timeout
		if longest > api.DefaultRequests*round {
			t.Errorf("%d greedy tenants wait up to %s, their turns last %s", greedy, longest, round)
		}
		if greedy == 3 && round-timeout > api.TurnTime {
			t.Errorf("a turn comes after up to %s, and requests wait for %s", round-timeout, api.TurnTime)
		}
	}
}

// A greedy operator leaves the tenants their turns, and the greedy tenants leave it one.
func TestGreedyOperator(t *testing.T) {
	t.Parallel()
	loads := []load{{"tenant", true, 100 * time.Millisecond, 2 * time.Second, 1}}
	alone := play(t, 3*time.Hour, loads...)["tenant"]
	for _, name := range []string{"operator a", "operator b", "operator c"} {
		loads = append(loads, load{name, false, 20 * time.Second, 0, 2})
	}
	for _, name := range []string{"greedy a", "greedy b", "greedy c"} {
		loads = append(loads, load{name, true, 20 * time.Second, 0, 2})
	}
	beside := play(t, 3*time.Hour, loads...)
	if got := beside["tenant"]; got.last != alone.last || got.statements < alone.statements*95/100 {
		t.Errorf("beside greedy operators a tenant has %d statements and waits up to %s, alone %d and %s", got.statements, got.last, alone.statements, alone.last)
	}
	if got := beside["operator a"].statements; got < 3*60*60/20/3-3 {
		t.Errorf("beside greedy tenants one of three operators has %d statements", got)
	}
}

// Who has used little for a while is not greedy any more, and is forgotten.
func TestGreedIsForgotten(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	turns := api.NewTurns(func() time.Time { return now })
	var held []api.Turn
	for i := range api.GreedyStatements {
		held = append(held, turns.Ask(fmt.Sprint("greedy ", i), true))
	}
	now = now.Add(api.GreedyTime + time.Second)
	for i, turn := range held {
		turns.End(turn)
		held[i] = turns.Ask(fmt.Sprint("greedy ", i), true)
	}
	once := turns.Ask("once", true)
	now = now.Add(api.GreedyTime + time.Second)
	turns.End(once)
	again := turns.Ask("once", true)
	if again.Granted() {
		t.Error("who was greedy a moment ago takes the place of those who are not")
	}
	turns.End(again) // it gives up
	now = now.Add(2 * time.Minute)
	if again = turns.Ask("once", true); !again.Granted() {
		t.Error("who used little for a while waits with the greedy")
	}
	turns.End(again)
	for _, turn := range held {
		turns.End(turn)
	}
	now = now.Add(time.Hour)
	turns.End(turns.Ask("last", true))
	if n := turns.Owners(); n != 0 {
		t.Errorf("%d owners are remembered", n)
	}
}

// Statements that wait in the database keep neither another tenant nor the operator from
// asking, and are one of each tenant.
func TestHeavyStatements(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, text, err := w.store.CreateToken(t.Context(), "cli:test", state.Token{Name: "eyes-3", Role: state.Viewer, Tenant: "3"})
	if err != nil {
		t.Fatal(err)
	}
	w.tokens["eyes-3"] = text
	h := api.New(api.Options{Control: control.New(control.Options{Store: w.store, Queue: w.queue}), Authenticate: w.store.Authenticate, Logger: zerolog.Nop()})
	lock := w.lock("gancho.attempts")
	const each = 2
	codes := make(chan int, 2*each)
	for _, token := range []string{"admin-1", "admin-2"} {
		for range each {
			go func() { codes <- ask(h, "192.0.2.1:1", "/api/v1/deliveries", bearer(w.tokens[token])).Code }()
		}
	}
	for lock.waiting() < 2 { // asks the database again
		if t.Context().Err() != nil {
			t.Fatal("the statements do not wait for the lock")
		}
	}
	for _, token := range []string{"eyes-3", "root"} {
		if a := ask(h, "192.0.2.1:1", "/api/v1/audit", bearer(w.tokens[token])); a.Code != http.StatusOK {
			t.Errorf("beside statements that wait the audit log of %s is answered %d: %s", token, a.Code, a.Body)
		}
	}
	if n := lock.waiting(); n != 2 {
		t.Errorf("%d statements of two tenants at once", n)
	}
	lock.release()
	for range 2 * each {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("a heavy query that waited is answered %d", code)
		}
	}
}

// What a request waits for behind its turn is none of the time that it has used.
func TestOnlyStatementsCount(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	turns := api.NewTurns(func() time.Time { return now })
	first := turns.Ask("a", true)
	now = now.Add(10 * api.GreedyTime)
	turns.Begin(first)
	now = now.Add(time.Millisecond)
	turns.End(first)
	for i := range api.GreedyStatements { // only who is not greedy has a turn beside these
		held := turns.Ask(fmt.Sprint("greedy ", i), true)
		now = now.Add(2 * api.GreedyTime)
		if !held.Granted() {
			t.Fatal("a turn is not granted")
		}
	}
	if again := turns.Ask("a", true); !again.Granted() {
		t.Error("who has waited behind its turn counts as greedy")
	}
}

// A request that gives up leaves its turn to the next.
func TestTurnsAreGivenUp(t *testing.T) {
	t.Parallel()
	turns := api.NewTurns(time.Now)
	first, second := turns.Ask("a", true), turns.Ask("a", true)
	third := turns.Ask("a", true)
	if !first.Granted() || second.Granted() || third.Granted() {
		t.Fatal("an owner has not one turn at a time")
	}
	turns.End(second)
	turns.End(first)
	if second.Granted() || !third.Granted() {
		t.Error("a turn that was given up is granted")
	}
	turns.End(third)
	if last := turns.Ask("a", true); !last.Granted() {
		t.Error("after all turns have ended none is granted")
	}
}

// A request that asks many sources at once has its statements one after the other: it has one place among the requests.
func TestTurnsOfSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	of := control.Options{Store: w.store, Queue: w.queue, Verdicts: w.verdicts}
	house := of
	house.EachSource = func(_ context.Context, do func(*control.Service) error) error {
		var group errgroup.Group
		for i := range 8 {
			group.Go(func() error {
				one := of
				one.SourceName = fmt.Sprint("loja_", i)
				return do(control.New(one))
			})
		}
		return group.Wait()
	}
	w.serve(zerolog.Nop(), house)
	for range 3 {
		if a := w.do(http.MethodGet, "/why?table=cobrancas&key=7-key", "root", ""); a.status != http.StatusOK || !strings.Contains(string(a.body), "loja_7") {
			t.Errorf("%d: %s", a.status, a.body)
		}
	}
}
