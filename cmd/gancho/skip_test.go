package main_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// skipWorld is a bridge whose source has, among rows that it can send, transactions that it cannot.
type skipWorld struct {
	*world
	receiver *receiver
	seq      int // of the last row that can be sent
	bads     int // transactions that cannot
	kills    map[string]int
}

func newSkipWorld(t *testing.T) *skipWorld {
	t.Helper()
	w := newWorldOn(t, pg, "template template0 encoding 'WIN1252' locale 'C'", testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	s := &skipWorld{world: w, receiver: newReceiver(t, nil), kills: map[string]int{}}
	s.endpoint("a", s.receiver.url())
	return s
}

// good writes rows that arrive, in transactions of their own.
func (s *skipWorld) good(n int) {
	for range n {
		s.seq++
		s.exec("insert into eventos (cliente_id, seq) values (1, $1)", s.seq)
	}
}

// bad writes a transaction that the server cannot send, with a row before that and one after it.
func (s *skipWorld) bad() {
	s.bads++
	s.exec(`insert into eventos (cliente_id, seq, texto) values (900, $1, 'a'), (901, $1, E'\x81'), (902, $1, 'c')`, s.bads)
}

// arrived waits until every row that can be sent has arrived, and checks that of the others only those may have that came
// before the one that cannot: the server sends the changes of a transaction one by one.
func (s *skipWorld) arrived() {
	s.t.Helper()
	all := s.receiver.waitFor(queuetest.Patience, "the rows that can be sent", func(all []arrival) bool { return len(distinct(ofKey(all, "1"))) >= s.seq })
	for _, a := range all {
		if key := a.field("cliente_id"); key != "1" && key != "900" {
			s.t.Errorf("row %s/%s arrived", key, a.field("seq"))
		}
	}
	checkDelivery(s.t, ofKey(all, "1"), s.seq)
}

func ofKey(all []arrival, key string) []arrival {
	return slices.DeleteFunc(slices.Clone(all), func(a arrival) bool { return a.field("cliente_id") != key })
}

func distinct(all []arrival) map[string]bool {
	ids := map[string]bool{}
	for _, a := range all {
		ids[a.id] = true
	}
	return ids
}

// killedAfter has something run for longer and longer, and kills it, until it has reached what it is to reach.
func (s *skipWorld) killedAfter(what string, begin func() *bridge, reached func(*bridge) bool) *bridge {
	s.t.Helper()
	for lasts := 40 * time.Millisecond; ; lasts += lasts / 3 {
		b := begin()
		deadline := time.NewTimer(lasts)
		for {
			if reached(b) {
				deadline.Stop()
				return b
			}
			select {
			case <-b.line:
				continue
			case <-b.done:
				if !reached(b) {
					s.t.Fatalf("%s: gancho ended (%v):\n%s", what, b.err, tail(b.text(), 4000))
				}
				continue
			case <-deadline.C:
			}
			break
		}
		b.kill()
		s.kills[what]++
		if lasts > queuetest.Patience {
			s.t.Fatalf("%s: not reached in %s:\n%s", what, lasts, tail(b.text(), 4000))
		}
	}
}

var stuckAt = regexp.MustCompile(`cannot send a change of the transaction at ([0-9A-F]+/[0-9A-F]+)`)

func said(text string) func(*bridge) bool {
	return func(b *bridge) bool { return strings.Contains(b.text(), text) }
}

func (s *skipWorld) begin() *bridge { return s.start("run", "--config", s.write()) }

// gaps are the positions of the gaps on record, the oldest first.
func (s *skipWorld) gaps() (at []string) {
	s.t.Helper()
	var gaps []struct{ ID, Reason, From string }
	if err := json.Unmarshal([]byte(s.recover(0, []string{"--list", "--json"})), &gaps); err != nil {
		s.t.Fatal(err)
	}
	for i := len(gaps) - 1; i >= 0; i-- {
		if gaps[i].Reason != "unprintable" || gaps[i].ID != gaps[i].From {
			s.t.Errorf("gap %+v", gaps[i])
		}
		at = append(at, gaps[i].From)
	}
	return at
}

// TestSkipUnderKills: the bridge is killed at every step of gancho recover --skip, from before it has recorded where the
// stream ends until it has stepped over the transaction, and so are the command and Redis. Exactly that transaction is
// left out, it is recorded once, and the stream ends at the next one.
func TestSkipUnderKills(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newSkipWorld(t)
	s.run().stop()
	want := []string{}
	for _, during := range []string{"bridge", "redis"} {
		s.good(3)
		s.bad()
		s.good(3)
		refused := func(b *bridge) bool {
			return strings.Contains(b.text(), "capture is refused") && stuckAt.MatchString(b.text())
		}
		b := s.killedAfter("before it is recorded", s.begin, refused)
		at := stuckAt.FindStringSubmatch(b.text())[1]
		if len(want) > 0 && at == want[0] {
			t.Fatalf("the stream ends again at %s, which was stepped over", at)
		}
		want = append(want, at)
		if during == "bridge" {
			b.kill() // nobody runs while the command does
			s.kills["while the command runs"]++
		}

		skipping := func() *bridge { return s.start("recover", "--skip", at, "--yes", "--config", s.write()) }
		recorded := said("is recorded as a gap")
		switch during {
		case "bridge":
			s.killedAfter("while it is commanded", skipping, recorded).wait(0)
		case "redis":
			s.redisKilled(skipping, recorded)
			if !b.running() {
				t.Fatalf("the bridge ended:\n%s", tail(b.text(), 4000))
			}
			b.kill()
		}
		// Redis has it, also when it is killed now.
		s.redis.Kill()
		if err := s.redis.Start(); err != nil {
			t.Fatal(err)
		}
		b = s.killedAfter("until it is stepped over", s.begin, func(b *bridge) bool {
			all, _ := s.receiver.snapshot()
			return len(distinct(ofKey(all, "1"))) >= s.seq && strings.Contains(b.text(), "bridge is ready")
		})
		s.good(3)
		s.arrived()
		if got := fmt.Sprint(s.gaps()); got != fmt.Sprint(want) {
			t.Errorf("gaps %s, want %s", got, want)
		}
		b.stop()
	}
	// One that nobody has asked to step over is not stepped over.
	b := s.begin()
	b.waitLog("bridge is ready")
	s.bad()
	s.good(1)
	b.waitLog("capture is refused")
	s.recover(1, []string{"--skip", want[0], "--yes"}, "does not end at "+want[0])
	s.seq-- // it waits behind the transaction
	s.arrived()
	t.Logf("kills: %v", s.kills)
	b.stop()
}

// redisKilled kills Redis ever later while the command runs, until the command has done it, and starts it again.
// A command that was cut off has not said that it is done; one that has, has.
func (s *skipWorld) redisKilled(begin func() *bridge, reached func(*bridge) bool) {
	s.t.Helper()
	for after := 60 * time.Millisecond; ; after += after / 3 {
		b := begin()
		select {
		case <-b.done:
		case <-time.After(after):
			s.redis.Kill()
			s.kills["redis, while the command runs"]++
			if err := s.redis.Start(); err != nil {
				s.t.Fatal(err)
			}
			select {
			case <-b.done:
			case <-time.After(queuetest.Patience):
				s.t.Fatalf("the command does not end:\n%s", tail(b.text(), 4000))
			}
		}
		if done := b.cmd.ProcessState.ExitCode() == 0; done != reached(b) {
			s.t.Fatalf("exit %d:\n%s", b.cmd.ProcessState.ExitCode(), b.text())
		} else if done {
			return
		}
	}
}

func (b *bridge) running() bool {
	select {
	case <-b.done:
		return false
	default:
		return true
	}
}

// TestSkipOnTheFly: a bridge that runs steps over the transaction by itself. Redis is killed when it has been asked to, when it
// has noticed, and when it has begun to read again.
func TestSkipOnTheFly(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newSkipWorld(t)
	b := s.run()
	for i, moment := range []string{"cannot send a change of the transaction at", "capture begins again", "replication started"} {
		s.good(2)
		s.bad()
		s.good(2)
		round := i + 1
		at := stuckAt.FindStringSubmatch(b.waitLogs("cannot send a change of the transaction at", round))[1]
		started := strings.Count(b.text(), "replication started")
		s.recover(0, []string{"--skip", at, "--yes"}, "is recorded as a gap")
		switch moment {
		case "replication started":
			b.waitLogs(moment, started+1)
		default:
			b.waitLogs(moment, round)
		}
		s.redis.Kill()
		if err := s.redis.Start(); err != nil {
			t.Fatal(err)
		}
		b.waitLogs("stepped over the transaction", round)
		s.arrived()
		if n := len(s.gaps()); n != round {
			t.Errorf("%d gaps after %d transactions", n, round)
		}
	}
	b.stop()
}
