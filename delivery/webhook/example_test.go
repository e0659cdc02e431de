package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

func ExampleSender_Send() {
	secret := endpoint.GenerateSecret()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = webhook.Verify([]endpoint.Secret{secret}, r.Header, body, time.Now())
		}
		fmt.Println(string(body), err)
	}))
	defer receiver.Close()
	sender := webhook.NewSender(webhook.Options{Version: "1.0"})
	defer sender.Close()

	outcome := sender.Send(context.Background(), &endpoint.Endpoint{
		Name: "crm", URL: receiver.URL, Format: endpoint.FormatBare, Secrets: []endpoint.Secret{secret},
		AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}, &webhook.Message{ID: "0a1b2c3d-1", Type: "cobranca.paga", Time: time.Now(), Data: []byte(`{"id":42,"valor":129.90}`)})
	fmt.Println(outcome.Kind, outcome.Status, outcome.Class)
	// Output:
	// {"id":42,"valor":129.90} <nil>
	// delivered 200 ok
}
