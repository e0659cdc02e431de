package bench_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	delivery "gancho/delivery/endpoint"
	"gancho/internal/state"
)

// What a vendor with many customers has.
const (
	scaleDatabase  = "bench_scale"
	scaleTables    = 5_000
	scaleRules     = 500
	scaleEndpoints = 10_000
	scaleBusy      = 1_000 // of the endpoints get events while the configuration is reloaded
	scaleRate      = 200   // a second
)

// scaleFigures are the figures of one way to configure the endpoints.
type scaleFigures struct {
	ready, owned []float64 // seconds from the start: until the bridge is ready, and until it has all endpoints
	starting     []float64 // seconds of its processor time until then
	adopted      []float64 // seconds from the signal, or the edit, until it holds
	gap, plain   []float64 // ms: the longest time between two arrivals, during that and in as much time without
	heap, rss    float64   // bytes for each endpoint, live and resident
}

// scaleFile is the start and the reload of a bridge whose endpoints are all in gancho.yaml.
func (l *lab) scaleFile(ctx context.Context) (row, error) {
	return l.scale(ctx, "in gancho.yaml; reload", func(f *scaleFigures) error { return l.scaled(ctx, "", f) })
}

// scaleStored is that of one whose endpoints are stored; what is measured beside the start is the edit of one.
func (l *lab) scaleStored(ctx context.Context) (row, error) {
	return l.scale(ctx, "stored; edit of one", func(f *scaleFigures) error {
		section, err := l.stateSection(ctx)
		if err != nil {
			return err
		}
		return l.scaled(ctx, section, f)
	})
}

func (l *lab) scale(ctx context.Context, what string, run func(*scaleFigures) error) (r row, err error) {
	if err := l.scaleSource(ctx); err != nil {
		return r, err
	}
	defer func() {
		l.database, l.rules, l.extra, l.environment = database, plainRules, "", nil
		err = errors.Join(err, l.postgres.Exec(context.WithoutCancel(ctx), "postgres", "drop database "+scaleDatabase+" with (force)"))
	}()
	l.database, l.rules, l.environment = scaleDatabase, scaleRulesText(0), []string{"GODEBUG=gctrace=1"}
	var f scaleFigures
	if err := run(&f); err != nil {
		return r, err
	}
	return row{
		what: fmt.Sprintf("%d tables, %d rules, %d endpoints %s", scaleTables, scaleRules, scaleEndpoints, what),
		figure: fmt.Sprintf("ready %.2f s, delivering to all %.2f s (%.2f s of the processor), then %.2f s, longest gap %.0f ms, %.1f KB of heap and %.1f KB of RSS an endpoint",
			median(f.ready), median(f.owned), median(f.starting), median(f.adopted), median(f.gap), f.heap/1024, f.rss/1024),
		limit: fmt.Sprintf("longest gap %.0f ms without (at %d/s)", median(f.plain), scaleRate),
		ratio: "-", reach: "ready <= 3 s, reload <= 1 s, gap as without, <= 4 KB",
	}, nil
}

// scaleSource makes the database.
func (l *lab) scaleSource(ctx context.Context) error {
	if err := l.postgres.Exec(ctx, "postgres", "create database "+scaleDatabase); err != nil {
		return err
	}
	return l.postgres.Exec(ctx, scaleDatabase, fmt.Sprintf(`do $$ begin for i in 0..%d loop
		execute format('create table t%%s (id bigserial primary key, empresa_id int not null, cliente_id int not null, status char(2) not null,
			numero varchar(20), total numeric(12,2), desconto numeric(12,2), criado_em timestamp default localtimestamp, observacao text)', i);
		if i %% 500 = 499 then commit; end if; end loop; end $$`, scaleTables-1))
}

// scaleRulesText is the rules: one in ten looks something up. The first one's payload names a revision.
func scaleRulesText(revision int) string {
	var b strings.Builder
	_, _ = b.WriteString("rules:\n")
	for i := range scaleRules {
		_, _ = fmt.Fprintf(&b, `  - event: t%[1]d.criado
    table: t%[1]d
    on: insert
    when: status <> '00' and total > 0
    tenant: empresa_id
    key: id
    data: {id: id, empresa: empresa_id, cliente: cliente_id, numero: numero, total: total, criado_em: criado_em, liquido: total - desconto, revisao: %[2]d`, i, revision)
		if revision = 0; i%10 == 9 {
			_, _ = fmt.Fprintf(&b, ", outro: outro.numero}\n    lookup:\n      outro: select numero from t%d where id = new.cliente_id\n", i+scaleRules)
		} else {
			_, _ = b.WriteString("}\n")
		}
	}
	return b.String()
}

func scaleName(i int) string { return fmt.Sprintf("unidade-%05d", i) }

// scaleList is endpoints of as many tenants in YAML; of the first one a header names a revision.
func scaleList(url string, n, revision int) string {
	var b strings.Builder
	for i := range n {
		_, _ = fmt.Fprintf(&b, "  - {name: %s, url: %q, secret: \"segredo-da-unidade-%05d-%05d\", tenants: [%d], events: ['*.criado'], headers: {X-Api-Key: \"%d-%d\"}, allow_http: true, allow_private: [127.0.0.0/8]}\n",
			scaleName(i), url, i, i, i, i, revision)
		revision = 0
	}
	return b.String()
}

// scaled starts the bridge some times, reloads, or edits an endpoint, under events, and measures its memory, beside that of
// one with a single endpoint. section is of the state, where the endpoints are stored; empty: they are in the file.
func (l *lab) scaled(ctx context.Context, section string, f *scaleFigures) error {
	receiver, url, err := l.receiver(0)
	if err != nil {
		return err
	}
	if err := l.freshRedis(ctx); err != nil {
		return err
	}
	l.slots++
	slot := fmt.Sprintf("bench_%d", l.slots)
	l.extra = section
	alone, err := l.scaleStart(ctx, slot, scaleList(url+"/hook", 1, 0), 1, nil)
	if err != nil {
		return err
	}
	heap, rss, err := alone.memory(ctx)
	if err != nil {
		return err
	}
	list, n, store := scaleList(url+"/hook", scaleEndpoints, 0), scaleEndpoints, (*state.Store)(nil)
	if section != "" {
		if store, err = l.scaleStore(ctx, section, url+"/hook"); err != nil {
			return err
		}
		defer store.Close()
		list = "  []\n"
	}
	if err := alone.stop(); err != nil {
		return err
	}
	var b *scaleBridge
	for range repeats {
		if b != nil {
			if err := b.stop(); err != nil {
				return err
			}
		}
		if b, err = l.scaleStart(ctx, slot, list, n, f); err != nil {
			return err
		}
	}
	heapAll, rssAll, err := b.memory(ctx)
	if err != nil {
		return err
	}
	f.heap, f.rss = (heapAll-heap)/float64(n), (rssAll-rss)/float64(n)
	for i := range repeats {
		change := func() error { return l.scaleReload(b, slot, url+"/hook", i+1) }
		if store != nil {
			change = func() error { return scaleEdit(ctx, b, store, url+"/hook", i+1) }
		}
		if err := l.scaleUnder(ctx, url, change, f); err != nil {
			return err
		}
	}
	for _, p := range []*process{b.process, receiver} {
		if err := p.stop(); err != nil {
			return err
		}
	}
	return l.dropSlot(ctx, slot)
}

// scaleBridge is a bridge, which prints each collection of its heap.
type scaleBridge struct{ *process }

// scaleStart starts a bridge with n endpoints, and notes how long it took; f may be nil.
func (l *lab) scaleStart(ctx context.Context, slot, endpoints string, n int, f *scaleFigures) (*scaleBridge, error) {
	begun := time.Now()
	p, err := l.bridge(slot, endpoints)
	if err != nil {
		return nil, err
	}
	b := &scaleBridge{process: p}
	if _, err := p.waitLine("bridge is ready"); err != nil {
		return nil, err
	}
	ready := time.Since(begun)
	c := l.client()
	defer func() { _ = c.Close() }()
	for {
		leases, err := c.ZCard(ctx, "gancho:leases").Result()
		if err != nil {
			return nil, err
		}
		if leases > int64(n) { // the process is there, too
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	if f != nil {
		f.ready, f.owned = append(f.ready, ready.Seconds()), append(f.owned, time.Since(begun).Seconds())
		f.starting = append(f.starting, cpu(p.cmd.Process.Pid).Seconds())
	}
	return b, nil
}

// collection is what gctrace prints of a collection: the heap before, after, and what of it is live, in MiB.
var collection = regexp.MustCompile(`^gc \d+ @.* (\d+)->(\d+)->(\d+) MB, `)

// memory is the live heap of a bridge with nothing to do, and what of it is resident, in bytes. The heap is the least that a collection has found:
// one that begins while the leases are renewed, or the queues are measured, counts what that takes for a moment, and on a busy machine most do.
func (b *scaleBridge) memory(ctx context.Context) (heap, rss float64, err error) {
	const watched = 130 * time.Second // Go collects when it has not for two minutes
	heap = math.Inf(1)
	for end := time.After(watched); ; {
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-end:
			if math.IsInf(heap, 1) {
				return 0, 0, errors.New("no collection of the heap was seen")
			}
			rss, err = resident(b.cmd.Process.Pid)
			return heap, rss, err
		case line, ok := <-b.lines:
			if !ok {
				return 0, 0, errors.New("the bridge has ended")
			}
			if m := collection.FindStringSubmatch(line); m != nil {
				live, err := strconv.ParseFloat(m[3], 64)
				if err != nil {
					return 0, 0, err
				}
				heap = min(heap, live*(1<<20))
			}
		}
	}
}

// resident is what of a process is in memory, in bytes.
func resident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.ParseFloat(kib, 64)
	return n * 1024, err
}

// scaleStore stores the endpoints. The bridge has migrated the database.
func (l *lab) scaleStore(ctx context.Context, section, url string) (*state.Store, error) {
	keys, err := state.ParseKeys(strings.TrimSpace(section[strings.Index(section, "key:")+len("key:"):]))
	if err != nil {
		return nil, err
	}
	store, err := state.Open(ctx, state.Options{DSN: l.postgres.DSN(l.database), Keyring: keys, Logger: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	adding, ctx := errgroup.WithContext(ctx)
	adding.SetLimit(4)
	for i := range scaleEndpoints {
		adding.Go(func() error {
			secret, err := delivery.ParseSecret(fmt.Sprintf("segredo-da-unidade-%05d-%05d", i, i))
			if err != nil {
				return err
			}
			_, err = store.AddEndpoint(ctx, "cli:bench", scaleDocument(i, url, 0), []delivery.Secret{secret})
			return err
		})
	}
	if err := adding.Wait(); err != nil {
		store.Close()
		return nil, err
	}
	return store, nil
}

// scaleDocument is a stored endpoint.
func scaleDocument(i int, url string, revision int) state.Endpoint {
	document := fmt.Appendf(nil, `{"url":%q,"tenants":["%d"],"events":["*.criado"],"headers":{"X-Api-Key":"%d-%d"},"allow_http":true,"allow_private":["127.0.0.0/8"]}`, url, i, i, revision)
	return state.Endpoint{
		Name: scaleName(i), Tenants: []string{strconv.Itoa(i)}, Document: document,
		Public: fmt.Appendf(nil, `{"url":%q,"tenants":["%d"],"events":["*.criado"]}`, url, i),
	}
}

// scaleReload has the bridge read its files, of which one rule and one endpoint are others.
func (l *lab) scaleReload(b *scaleBridge, slot, url string, revision int) error {
	l.rules = scaleRulesText(revision)
	if _, err := l.configure(slot, scaleList(url, scaleEndpoints, revision)); err != nil {
		return err
	}
	return b.reload()
}

// reload returns when the bridge has read its files again.
func (b *scaleBridge) reload() error {
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	_, err := b.waitLine("configuration reloaded")
	return err
}

// scaleEdit edits an endpoint and returns when the bridge has it.
func scaleEdit(ctx context.Context, b *scaleBridge, store *state.Store, url string, revision int) error {
	now, err := store.Endpoint(ctx, scaleName(0))
	if err != nil {
		return err
	}
	edited := scaleDocument(0, url, revision)
	edited.Version = now.Version
	if _, err := store.UpdateEndpoint(ctx, "cli:bench", edited); err != nil {
		return err
	}
	_, err = b.waitLine("endpoints applied")
	return err
}

// scaleUnder changes something while events come, and measures how long that takes and the longest gap between two arrivals, and
// the gap in three seconds without.
func (l *lab) scaleUnder(ctx context.Context, url string, change func() error, f *scaleFigures) error {
	inserting, stop := context.WithCancel(ctx)
	defer stop()
	inserted := make(chan error, 1)
	go func() { inserted <- l.scaleInsert(inserting) }()
	const plain = 3 * time.Second
	if _, err := received(ctx, url, 2*scaleRate); err != nil { // connections are made
		return err
	}
	gapOf := func(during func() error) (float64, error) {
		if err := reset(ctx, url); err != nil {
			return 0, err
		}
		if err := during(); err != nil {
			return 0, err
		}
		t, err := ask(ctx, url)
		return ms(t.Gap), err
	}
	without, err := gapOf(func() error {
		select {
		case <-ctx.Done():
		case <-time.After(plain):
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	var took time.Duration
	gap, err := gapOf(func() error {
		begun := time.Now()
		if err := change(); err != nil {
			return err
		}
		took = time.Since(begun)
		select { // what the change has left to do comes after it
		case <-ctx.Done():
		case <-time.After(plain - min(took, plain)):
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	stop()
	f.adopted, f.gap, f.plain = append(f.adopted, took.Seconds()), append(f.gap, gap), append(f.plain, without)
	return <-inserted
}

// scaleInsert commits rows for endpoints in turn until the context ends.
func (l *lab) scaleInsert(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, l.postgres.DSN(l.database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tick := time.NewTicker(time.Second / scaleRate)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		_, err := conn.Exec(context.WithoutCancel(ctx), `insert into t0 (empresa_id, cliente_id, status, numero, total, desconto, observacao)
			values ($1, 7, '10', 'P1', 10.5, 0.5, 'entregar na portaria')`, i%scaleBusy)
		if err != nil {
			return err
		}
	}
}
