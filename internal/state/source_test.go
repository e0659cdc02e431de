package state_test

import (
	"testing"

	"gancho/delivery/queue"
)

func TestSource(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	same(t, "unknown", (*queue.Claimed)(nil), must[*queue.Claimed](t)(s.Source(ctx, "gancho")))
	c := queue.Claimed{
		Source: queue.Source{SystemID: "7", Database: "ração\x00", Slot: "gancho", Timeline: 1}, Epoch: 1,
		Numbers: map[string]int{"public.clientes 0 cliente.criado": 0, "público.ração 0 \u2028": 65535},
	}
	for range 2 {
		check(t, s.RememberSource(ctx, c))
		same(t, "remembered", &c, must[*queue.Claimed](t)(s.Source(ctx, "gancho")))
		c.Epoch++
		c.Numbers = map[string]int{"b": 0}
	}
	// Another process still has the claim before, and one of this epoch lacks a rule.
	check(t, s.RememberSource(ctx, queue.Claimed{Source: c.Source, Epoch: 1, Numbers: map[string]int{"a": 3}}))
	check(t, s.RememberSource(ctx, queue.Claimed{Source: c.Source, Epoch: 2, Numbers: map[string]int{"c": 1}}))
	last := must[*queue.Claimed](t)(s.Source(ctx, "gancho"))
	same(t, "epoch", 2, int(last.Epoch))
	same(t, "numbers", map[string]int{"b": 0, "c": 1}, last.Numbers)
	execute(t, dsn, `update gancho.sources set epoch = 9`) // as a bridge of an older version does
	same(t, "another epoch's numbers", 0, len(must[*queue.Claimed](t)(s.Source(ctx, "gancho")).Numbers))
}
