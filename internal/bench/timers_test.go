package bench_test

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// timerLoop is one transaction per row: of ten, one sets a timer, and the next one cancels it.
	timerLoop = `do $$ declare k bigint; begin for i in 1..%d loop
		insert into pedidos (empresa_id, cliente_id, status, numero, total, desconto, observacao)
			values (1, i %% 1000, case when i %% 10 = 0 then '00' else '10' end, 'P' || i, i * 1.01, 0.5, 'entregar na portaria') returning id into k;
		commit;
		if i %% 10 = 0 then
			update pedidos set status = '10' where id = k;
			commit;
		end if;
	end loop; end $$`
	// timedRules are plainRules and a rule whose timers timerLoop sets.
	timedRules = plainRules + `  - event: pedido.abandonado
    table: pedidos
    on: [insert, update]
    when: status = '00'
    after: 1h
    columns: [id, cliente_id, total]
`
	// dueRules are plainRules and a rule whose timers fall due when a column says.
	dueRules = plainRules + `  - event: prazo.vencido
    table: prazos
    on: insert
    after: vence
    columns: [id]
`
)

// timersSet compares capture with a rule whose timers a tenth of the changes set, and another tenth cancels, with capture of the same
// changes without that rule.
func (l *lab) timersSet(ctx context.Context) (r row, err error) {
	const n = 150_000
	defer func() { l.rules = plainRules }()
	if _, err := l.conn.Exec(ctx, "alter table pedidos replica identity full"); err != nil {
		return r, err
	}
	if _, err := l.recordAll(ctx, []string{fmt.Sprintf(timerLoop, n)}); err != nil {
		return r, err
	}
	var figures, limits []float64
	for range repeats {
		for _, side := range []struct {
			rules string
			rates *[]float64
		}{{plainRules, &limits}, {timedRules, &figures}} {
			l.rules = side.rules
			took, err := l.appendAll(ctx, n/10*9)
			if err != nil {
				return r, err
			}
			*side.rates = append(*side.rates, n*1.1/took.Seconds())
		}
	}
	for _, sql := range []string{"truncate pedidos", "alter table pedidos replica identity default"} {
		if _, err := l.conn.Exec(ctx, sql); err != nil {
			return r, err
		}
	}
	r = ratioRow(figures, limits, "the same changes without the rule")
	r.what, r.reach = fmt.Sprintf("capture while %.0f timers a second are set and as many canceled", slices.Max(figures)/11), ">= 0.8"
	return r, l.forget(ctx)
}

// timersDue is the latency of single rows while timers fall due, beside that without.
func (l *lab) timersDue(ctx context.Context) (r row, err error) {
	const timers, perSecond, seconds = 50_000, 200, 10
	l.rules = dueRules
	defer func() { l.rules = plainRules }()
	receiver, url, err := l.receiver(0)
	if err != nil {
		return r, err
	}
	for _, sql := range []string{
		"create table prazos (id int primary key, vence timestamptz not null)", "alter table prazos replica identity full", "alter publication " + publication + " add table prazos",
	} {
		if _, err := l.conn.Exec(ctx, sql); err != nil {
			return r, err
		}
	}
	if err := l.freshRedis(ctx); err != nil {
		return r, err
	}
	if _, err := l.record(ctx, "select 1"); err != nil {
		return r, err
	}
	slot, err := l.slot(ctx)
	if err != nil {
		return r, err
	}
	bridge, err := l.bridge(slot, endpoint(url+"/hook", 16, "active"))
	if err != nil {
		return r, err
	}
	if _, err := bridge.waitLine("bridge is ready"); err != nil {
		return r, err
	}
	live := func(n int) (tally, error) { return l.live(ctx, url, n, perSecond) }
	if _, err := live(perSecond); err != nil { // it warms connections up and is not counted
		return r, err
	}
	without, err := live(perSecond * seconds)
	if err != nil {
		return r, err
	}
	if err := l.setTimers(ctx, timers); err != nil {
		return r, err
	}
	during, err := live(perSecond * seconds)
	if err != nil {
		return r, err
	}
	sent := during.Read
	for deadline := time.Now().Add(2 * time.Minute); during.Read < timers; {
		if during, err = ask(ctx, url); err != nil {
			return r, err
		}
		if time.Now().After(deadline) {
			return r, fmt.Errorf("%d of %d timers made events", during.Read, timers)
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	for _, p := range []*process{bridge, receiver} {
		if err := p.stop(); err != nil {
			return r, err
		}
	}
	if err := l.dropSlot(ctx, slot); err != nil {
		return r, err
	}
	if _, err := l.conn.Exec(ctx, "drop table prazos"); err != nil {
		return r, err
	}
	return row{
		what:   fmt.Sprintf("commit to arrival at %d rows/s while 50,000 timers fall due in a second (%d were sent meanwhile, to the same endpoint)", perSecond, sent),
		figure: fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", ms(during.P50), ms(during.P99)),
		limit:  fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, without", ms(without.P50), ms(without.P99)),
		ratio:  fmt.Sprintf("%.2f", ms(during.P99)/ms(without.P99)), reach: "<= 2",
	}, l.forget(ctx)
}

// setTimers sets timers that fall due within a second, and returns three seconds before the first of them.
func (l *lab) setTimers(ctx context.Context, n int) error {
	begun := time.Now()
	const wait = 25 * time.Second
	sql := fmt.Sprintf("insert into prazos select i, clock_timestamp() + interval '%d seconds' + i * interval '20 us' from generate_series(1, %d) i", int(wait.Seconds()), n)
	if _, err := l.conn.Exec(ctx, sql); err != nil {
		return err
	}
	c := l.client()
	defer func() { _ = c.Close() }()
	for {
		set, err := c.ZCard(ctx, "gancho:{gancho:parked}:timers-due:0").Result()
		if err != nil {
			return err
		}
		rest := wait - 3*time.Second - time.Since(begun)
		if rest < 0 {
			return fmt.Errorf("only %d timers were set in time", set)
		}
		if set < int64(n) {
			rest = min(rest, 50*time.Millisecond)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rest):
		}
		if set == int64(n) {
			return nil
		}
	}
}
