package dispatch_test

import (
	"context"
	"fmt"
	"log"
	"sync"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// printer is a sender that prints what it is to send.
type printer struct{ sent chan struct{} }

func (p printer) Send(_ context.Context, ep *endpoint.Endpoint, m *webhook.Message) webhook.Outcome {
	fmt.Println("to", ep.Name+":", m.Type, string(m.Data))
	p.sent <- struct{}{}
	return delivered()
}

func (p printer) SendList(ctx context.Context, ep *endpoint.Endpoint, list []*webhook.Message) webhook.Outcome {
	for _, m := range list {
		p.Send(ctx, ep, m)
	}
	return delivered()
}

func (printer) Redial(*endpoint.Endpoint) {}

// The events of one ordering key are delivered in commit order.
func ExampleDispatcher() {
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer redis.Close()
	ctx, stop := context.WithCancel(context.Background())
	endpoints := []*endpoint.Endpoint{{Name: "crm", URL: "https://crm.example.com/hooks"}}
	q, err := queue.Open(ctx, queue.Options{URL: redis.URL(), Endpoints: endpoints})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	if _, err := q.Claim(ctx, queue.Source{SystemID: "7300000000000000001", Database: "loja", Slot: "gancho", Timeline: 1}, false); err != nil {
		log.Fatal(err)
	}
	batch := q.NewBatch()
	for i, status := range []string{"aberto", "pago", "enviado"} {
		event := &mapping.Event{
			Position: cdc.Position{Commit: cdc.LSN(0x2000 + i)}, Type: "pedido.alterado", Key: []byte("7"),
			Data: fmt.Appendf(nil, `{"id":7,"status":%q}`, status),
		}
		if _, err := batch.Add(event); err != nil {
			log.Fatal(err)
		}
	}
	if err := q.Append(ctx, batch); err != nil {
		log.Fatal(err)
	}

	p := printer{make(chan struct{})}
	d := dispatch.New(q, p, endpoints, dispatch.Options{})
	var running sync.WaitGroup
	running.Go(func() { _ = d.Run(ctx) }) // it returns nil
	for range batch.Len() {
		<-p.sent
	}
	stop()
	running.Wait()
	// Output:
	// to crm: pedido.alterado {"id":7,"status":"aberto"}
	// to crm: pedido.alterado {"id":7,"status":"pago"}
	// to crm: pedido.alterado {"id":7,"status":"enviado"}
}
