package forward_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/forward"
	"gancho/internal/testservers"
)

// TestScreen is a session on a terminal: a list, the chosen request and answer, r, and a terminal as it was in the end.
func TestScreen(t *testing.T) {
	t.Parallel()
	master, slave := testservers.Terminal(t)
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan string, 1000)
	go func() { // it ends with the terminal
		buffer := make([]byte, 1<<16)
		for {
			n, err := master.Read(buffer)
			if err != nil {
				return
			}
			shown <- string(buffer[:n])
		}
	}()
	var all bytes.Buffer
	await := func(text string) {
		t.Helper()
		late := time.NewTimer(20 * time.Second)
		defer late.Stop()
		for !strings.Contains(all.String(), text) {
			select {
			case part := <-shown:
				all.WriteString(part)
			case <-late.C:
				t.Fatalf("%q is not shown:\n%q", text, all.String())
			}
		}
		_, after, _ := strings.Cut(all.String(), text)
		all.Reset()
		all.WriteString(after)
	}
	press := func(key string) {
		t.Helper()
		if _, err := master.WriteString(key); err != nil {
			t.Fatal(err)
		}
	}
	exchange := func(event, body string) *forward.Exchange {
		return &forward.Exchange{
			Time: time.Now(), Endpoint: "crm", Event: event, WebhookID: "a-1",
			Request: &webhook.ExchangeRequest{Method: http.MethodPost, URL: "http://localhost:3000/hooks", Header: http.Header{"Webhook-Id": {"a-1"}}, Body: body},
			Answer:  &webhook.ExchangeAnswer{Status: 202, Body: "accepted"},
		}
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	secret := endpoint.GenerateSecret().Reveal()
	exchanges, notes, ended := make(chan *forward.Exchange), make(chan string), make(chan error, 1)
	screen := forward.NewScreen(slave, slave, []string{"http://localhost:3000/a/rather/long/path/of/hooks", "signed with " + secret + ", which was made up"}, func(text string) string { return "<" + text + ">" })
	go func() {
		ended <- screen.Run(context.Background(), exchanges, notes, func(e *forward.Exchange) (*forward.Exchange, error) {
			if e.Event == "b.new" {
				return nil, errors.New("the bridge is not there")
			}
			again := *e
			again.Resent, again.Answer = true, &webhook.ExchangeAnswer{Status: 500, Body: "broken"}
			return &again, nil
		})
	}()
	await(secret) // whole
	await("<nothing has come yet>")
	exchanges <- exchange("a.new", "{\"id\":1,\"t\":\"\x1b[2J\"}")
	await("accepted")
	exchanges <- exchange("b.new", `{"id":2}`)
	await(`{"id":2}`)
	press("\x1b[A")
	await(`{"id":1,"t":"·[2J"}`) // nothing that comes steers the terminal
	press("r")
	await("500 after")
	press("jjkkj") // faster than it reads
	await(`{"id":2}`)
	press("r")
	await("the bridge is not there")
	notes <- "connected again"
	await("connected again")
	press("q")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal is not as it was: %v", err)
	}
	await("\x1b[?1049l")
}
