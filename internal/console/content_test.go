package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/console"
	"gancho/internal/contract"
	"gancho/internal/control"
	"gancho/internal/presets"
	"gancho/internal/state"
	"gancho/mapping"
)

// unit is a tenant of the business. Its mark is in the name of whatever is its own, and in nothing else.
type unit struct{ id, name, mark string }

// foreign is the unit whose objects nobody of centro may find.
var centro, foreign = unit{"1", "Academia Centro", "centro"}, unit{"2", "Academia Norte", "norte"}

// newBusiness is a console with what a business of two units has after some days: endpoints in each state, deliveries that went
// well and that did not, dead letters, parked changes, jobs, tokens, sessions and an audit log.
func newBusiness(t testing.TB) *world {
	t.Helper()
	w := newConsole(t, func(o *console.Options) {
		o.Tenants = func(context.Context) ([]console.Tenant, error) {
			return []console.Tenant{{ID: centro.id, Name: centro.name}, {ID: foreign.id, Name: foreign.name}}, nil
		}
		for _, name := range presets.ScreenNames() {
			o.Vendors = append(o.Vendors, vendor(t, name))
		}
		o.Control.Screens = o.Vendors
	})
	w.useRules(t)
	parsed, bound, _ := ruled(t)
	w.control.Contract = func() []contract.Event { return contract.Events(parsed.EventTypes(), bound.Payloads()) }
	b := business{world: w, random: rand.New(rand.NewPCG(1, 13)), now: time.Now().UTC().Truncate(time.Microsecond)}
	b.endpoints()
	b.queued()
	b.parked()
	b.log()
	b.jobs()
	b.units()
	return w
}

type business struct {
	*world
	random *rand.Rand
	now    time.Time
	events int
	all    []*endpoint.Endpoint
}

func (b *business) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// endpoints are named after their state.
func (b *business) endpoints() {
	ctx := context.Background()
	for _, e := range []struct{ name, tenant string }{
		{"erp-fiscal", ""}, {"bi-suspenso", ""}, {"crm-pausado", ""}, {"parceiro-falhando", ""}, {"site-inativo", ""},
		{"centro-crm", centro.id}, {"centro-pausado", centro.id}, {"norte-crm", foreign.id}, {"norte-falhando", foreign.id},
	} {
		b.endpoint(e.name, e.tenant)
		parsed, err := endpoint.Parse("", []byte("name: "+e.name+"\nurl: https://example.com\n"))
		b.must(err)
		if e.tenant != "" {
			parsed.Tenants = []string{e.tenant}
		}
		if e.name == "site-inativo" {
			_, err = b.control.Deactivate(ctx, root, e.name)
			b.must(err)
			continue
		}
		b.all = append(b.all, &parsed)
		_, err = b.control.Activate(ctx, root, e.name)
		b.must(err)
	}
	for _, name := range []string{"crm-pausado", "centro-pausado"} {
		_, err := b.control.Pause(ctx, root, name)
		b.must(err)
	}
	_, err := b.control.EditEndpoint(ctx, root, "erp-fiscal", control.Edit{Patch: []byte(`{"timeout":"20s"}`)})
	b.must(err)
}

// queued has events wait, and says how endpoints fare as their owner would.
func (b *business) queued() {
	ctx := context.Background()
	_, err := b.queue.Claim(ctx, queue.Source{SystemID: "7300000000000000001", Database: "academia", Slot: "gancho", Timeline: 1, ConfirmedFlush: 0x1000}, false)
	b.must(err)
	b.queue.Update(b.all)
	batch := b.queue.NewBatch()
	for i := range 60 {
		of := []unit{centro, foreign}[i%2]
		_, err := batch.Add(&mapping.Event{
			Position: cdc.Position{Commit: cdc.LSN(0x2000 + i)}, Type: "cobranca.paga", Rule: "rules/financeiro.yaml:3", Version: "1", Time: b.now.Add(time.Duration(i-90) * time.Minute),
			Tenant: []byte(of.id), Key: []byte(of.mark + "-" + strconv.Itoa(i)), Op: cdc.Update, Data: []byte(`{"id":` + strconv.Itoa(i) + `,"valor":129.90}`),
		})
		b.must(err)
	}
	b.must(b.queue.Append(ctx, batch))
	owners, err := b.queue.Worker().Acquire(ctx, time.Minute, []string{"bi-suspenso", "parceiro-falhando", "norte-falhando"})
	b.must(err)
	for i, o := range owners {
		var r queue.Results
		if i == 0 {
			r.Pause("every attempt has failed since "+b.now.Add(-25*time.Hour).Format(time.RFC3339), b.now.Add(-time.Hour))
		}
		r.SetHealth(&queue.Health{Failing: b.now.Add(-25 * time.Hour).UnixMilli()})
		_, err := o.Write(ctx, &r)
		b.must(err)
		b.must(o.Release(ctx))
	}
}

// parkedReasons are those of changes that could not be applied.
var parkedReasons = []string{
	"rules/financeiro.yaml:21: evaluate data.desconto: division by zero (SQLSTATE 22012)",
	`rules/financeiro.yaml:21: apply rule cobranca.vencida: column "vencimento" of table public.cobrancas is no longer in the stream; correct the rule and load it again`,
	`rules/financeiro.yaml:21: apply rule cobranca.vencida: table public.cobrancas does not fit the rule any more: "A" is not a label of enum situacao; did you mean "ABERTA"?`,
	"when needs old.status, which is outside of the replica identity and was not sent; run ALTER TABLE public.cobrancas REPLICA IDENTITY FULL;",
}

func (b *business) parked() {
	keys, err := state.ParseKeys(testKey)
	b.must(err)
	batch := b.queue.NewBatch()
	for i := range 12 {
		of := []unit{centro, foreign}[i%2]
		p := mapping.Parked{
			Position: cdc.Position{Commit: cdc.LSN(0x3000 + i)}, Type: "cobranca.vencida", Rule: "rules/financeiro.yaml:21", Table: "public.cobrancas", Op: cdc.Update,
			Time: b.now.Add(-time.Duration(i) * time.Hour), Reason: parkedReasons[i/3],
			Row: []byte(`{"new":{"id":"` + of.mark + "-" + strconv.Itoa(i) + `","valor":"0"}}`), Known: true, Tenant: []byte(of.id), Key: []byte(of.mark),
		}
		row := state.ParkedRow{Row: p.Row, Known: true, Tenant: of.id, Key: of.mark}
		p.Change, err = keys.SealParked(p.Position, p.N, &row)
		b.must(err)
		p.Row = nil
		b.must(batch.Park(&p))
	}
	b.must(b.queue.Append(context.Background(), batch))
}

// log is what dispatchers have recorded: each hundredth event was given up, some needed another attempt.
func (b *business) log() {
	var attempts []state.Attempt
	var events []webhook.Message
	var dead []state.DeadLetter
	for i := range 240 {
		of := []unit{centro, foreign}[i%2]
		m := b.message(of, b.now.Add(-time.Duration(i)*11*time.Minute))
		to := []string{"erp-fiscal", of.mark + "-crm"}[i/2%2]
		a := state.Attempt{
			Time: m.Time.Add(time.Second), Endpoint: to, Entry: strconv.Itoa(i), WebhookID: m.ID, Event: m.Type, Tenant: of.id, Key: m.Key, Committed: m.Time, Number: 1,
			Outcome: "delivered", Class: webhook.ClassOK, Status: http.StatusOK, Duration: webhook.Milliseconds(time.Duration(20+b.random.IntN(180)) * time.Millisecond), Tags: m.Tags,
		}
		if i%8 == 7 {
			failed := a
			failed.Outcome, failed.Class, failed.Status, failed.Error = "retry", webhook.ClassStatus, http.StatusServiceUnavailable, "post to https://crm.example.com: answered 503 Service Unavailable"
			failed.Detail = b.detail(of)
			attempts = append(attempts, failed)
			a.Number, a.Time = 2, a.Time.Add(5*time.Second)
		}
		if i%20 >= 18 {
			a.Outcome, a.Class, a.Status, a.Error, a.Detail = queue.OutcomeDead, webhook.ClassStatus, http.StatusUnprocessableEntity, "post to https://crm.example.com: answered 422 Unprocessable Entity", b.detail(of)
			dead = append(dead, state.DeadLetter{Endpoint: to, DeadEvent: queue.DeadEvent{
				Handle: strconv.Itoa(1000-i) + "-1", Message: m, Reason: "attempts", Attempts: a.Number,
				Failures: queue.Failures{First: m.Time, Last: a.Time, Status: a.Status, Class: a.Class, Error: a.Error, Answer: `{"erro":"` + of.mark + ` sem cadastro"}`},
			}})
		}
		attempts, events = append(attempts, a), append(events, m)
	}
	ctx := context.Background()
	b.must(b.store.WriteAttempts(ctx, attempts))
	b.must(b.store.WriteEvents(ctx, events))
	b.must(b.store.WriteDead(ctx, dead))
}

func (b *business) message(of unit, at time.Time) webhook.Message {
	b.events++
	return webhook.Message{
		ID: fmt.Sprintf("a1b2c3d4-%03d-%s", b.events, of.mark), Type: []string{"cobranca.paga", "aluno.matriculado", "pedido.faturado"}[b.random.IntN(3)], Tenant: of.id,
		Key: fmt.Sprintf("%s-%d", of.mark, b.random.IntN(50)), Time: at, Sequence: fmt.Sprintf("%020d", b.events), Op: "update", Version: "1",
		Data: []byte(`{"id":12345678901234567890,"valor":129.90,"unidade":"` + of.mark + `"}`), Previous: []byte(`{"valor":99.90}`), Tags: []string{"pedido=" + of.mark + strconv.Itoa(b.events)},
	}
}

func (b *business) detail(of unit) []byte {
	text, err := json.Marshal(webhook.Detail{
		Headers: http.Header{"Content-Type": {"application/json"}}, Answer: `{"erro":"` + of.mark + ` em manutenção"}`,
		Timing: webhook.Timing{DNS: 2e6, Connect: 14e6, TLS: 31e6, FirstByte: 90e6, Total: 140e6},
	})
	b.must(err)
	return text
}

// jobs are one of the operator, and one of each unit.
func (b *business) jobs() {
	ctx := context.Background()
	_, err := b.control.CreateResend(ctx, root, state.Job{Endpoint: "erp-fiscal", Rate: 50, Filter: state.Filter{Events: []string{"cobranca.paga"}}})
	b.must(err)
	for _, of := range []unit{centro, foreign} {
		_, err := b.control.CreateResend(ctx, control.Actor{Name: "token:" + of.mark, Role: state.Admin, Tenant: of.id},
			state.Job{Endpoint: of.mark + "-crm", Filter: state.Filter{Key: of.mark + "-7"}})
		b.must(err)
	}
}

// units have filled in their vendors' screens.
func (b *business) units() {
	for _, of := range []unit{centro, foreign} {
		v := b.as(state.Admin, of.id)
		v.open("/console/units/pacto").submit("Ativar", "URL Webhook", b.receiver.URL+"/"+of.mark).shows(http.StatusOK)
		v.open("/console/units/superlogica").submit("Instalar").shows(http.StatusCreated)
	}
}
