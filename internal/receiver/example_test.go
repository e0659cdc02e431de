package receiver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"gancho/internal/receiver"
)

// A receiver is an http.Handler. Handle sees every event; what repeats an
// accepted one is marked.
func ExampleReceiver() {
	r := receiver.New(receiver.Options{Handle: func(d receiver.Delivery) {
		fmt.Println(d.Type, d.Tenant, string(d.Data), "attempt", d.Attempt, "duplicate", d.Duplicate)
	}})
	const body = `{"id":"a-1","type":"cobranca.liquidada","tenant":"1","timestamp":"2026-11-20T15:00:00Z","sequence":"7","data":{"id":42}}`
	for range 2 {
		request := httptest.NewRequest(http.MethodPost, "/hooks", strings.NewReader(body))
		request.Header.Set("webhook-id", "a-1")
		answer := httptest.NewRecorder()
		r.ServeHTTP(answer, request)
		fmt.Println("answered", answer.Code)
	}
	sum := r.Summary()
	fmt.Println(sum.Received, "received,", sum.Duplicates, "seen before")
	// Output:
	// cobranca.liquidada 1 {"id":42} attempt 1 duplicate false
	// answered 200
	// cobranca.liquidada 1 {"id":42} attempt 2 duplicate true
	// answered 200
	// 2 received, 1 seen before
}
