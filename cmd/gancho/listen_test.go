package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	main "gancho/cmd/gancho"
	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// TestListen is a session of gancho listen: it says where it listens, prints
// what arrives, and a summary at the end.
func TestListen(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	outReader, out := io.Pipe()
	notesReader, notes := io.Pipe()
	code := make(chan int, 1)
	go func() {
		args := []string{"listen", "--addr", "127.0.0.1:0", "--secret", secret, "--json", "--status", "202"}
		code <- main.Main(ctx, args, strings.NewReader(""), out, notes)
		_, _ = out.Close(), notes.Close()
	}()
	lines, said := bufio.NewScanner(outReader), bufio.NewScanner(notesReader)
	said.Scan()
	address, ok := strings.CutPrefix(said.Text(), "listening on ")
	address, _, _ = strings.Cut(address, ";")
	if !ok {
		t.Fatalf("%q", said.Text())
	}
	key, err := endpoint.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	sender := webhook.NewSender(webhook.Options{Version: "test"})
	defer sender.Close()
	ep := &endpoint.Endpoint{
		Name: "try", URL: address, AllowHTTP: true, Secrets: []endpoint.Secret{key}, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	sent := make(chan webhook.Outcome, 1)
	go func() {
		sent <- sender.Send(t.Context(), ep, &webhook.Message{ID: "a-1", Type: "cliente.novo", Time: time.Now(), Sequence: "1", Data: []byte(`{"id":1}`)})
	}()
	lines.Scan()
	var line struct {
		ID, Type string
		Verified bool
		Status   int
	}
	if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.ID != "a-1" || line.Type != "cliente.novo" || !line.Verified || line.Status != 202 {
		t.Errorf("%v: %s", err, lines.Text())
	}
	if o := <-sent; o.Status != 202 {
		t.Errorf("status %d: %v", o.Status, o.Err)
	}
	interrupt()
	said.Scan()
	if !strings.HasPrefix(said.Text(), "1 received, 1 accepted; commit to arrival:") {
		t.Errorf("summary %q", said.Text())
	}
	if c := <-code; c != 0 {
		t.Errorf("exit code %d", c)
	}
}

func TestListenRefusals(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--status 99":          "--status 99 is not the status of an answer; use 200 to 599",
		"--fail-rate 1.5":      "--fail-rate 1.5 is not a share; use a number from 0 to 1",
		"--fail-rate NaN":      "--fail-rate NaN is not a share",
		"--delay -1s":          "--delay -1s is negative; use a duration such as 200ms",
		"--secret whsec_curto": "--secret: parse secret: ",
		"--secret senha":       "at least 24 are needed",
		"--colour":             "unknown flag: --colour",
	} {
		var out, notes bytes.Buffer
		code := main.Main(t.Context(), append([]string{"listen"}, strings.Fields(args)...), strings.NewReader(""), &out, &notes)
		if code != 2 || !strings.Contains(notes.String(), want) || strings.Contains(notes.String(), "curto") {
			t.Errorf("%s: code %d, %q; want 2 and %q", args, code, notes.String(), want)
		}
	}
	var out, notes bytes.Buffer
	code := main.Main(t.Context(), []string{"listen", "--addr", "127.0.0.1:99999"}, strings.NewReader(""), &out, &notes)
	if code != 1 || !strings.Contains(notes.String(), "choose another address with --addr") {
		t.Errorf("code %d, %q", code, notes.String())
	}
}
