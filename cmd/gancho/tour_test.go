package main_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	main "gancho/cmd/gancho"
	"gancho/internal/demo"
)

// gancho demo --tour shows each of the forty events with its SQL and its webhook.
func TestDemoTour(t *testing.T) {
	t.Parallel()
	scenes, err := demo.Scenes()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := main.Main(context.Background(), []string{"demo", "--tour"}, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("gancho demo --tour ends with %d:\n%s%s", code, tail(out.String(), 3000), errs.String())
	}
	lines := strings.Split(out.String(), "\n")
	for _, s := range scenes {
		found := false
		for i, line := range lines {
			f := strings.Fields(line)
			if len(f) < 2 || f[1] != s.Events[0] {
				continue
			}
			sql, webhook := strings.TrimSpace(lines[i+1]), lines[i+2]
			found = strings.Contains(webhook, "→") && strings.Contains(webhook, "empresa 1") && strings.Contains(webhook, `{"`) &&
				(strings.HasPrefix(sql, "insert") || strings.HasPrefix(sql, "update") || strings.HasPrefix(sql, "delete"))
		}
		if !found {
			t.Errorf("event %d, %s, is not shown with its SQL and webhook", s.Number, s.Events[0])
		}
	}
	if !strings.Contains(out.String(), "all 40 events arrived") {
		t.Errorf("the tour does not end with all events:\n%s", tail(out.String(), 2000))
	}
}

// The tour has its own end and its own traffic.
func TestDemoTourFlags(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--for=1s", "--seed=1"} {
		var errs bytes.Buffer
		if code := main.Main(context.Background(), []string{"demo", "--tour", flag}, strings.NewReader(""), io.Discard, &errs); code != 2 {
			t.Errorf("demo --tour %s ends with %d: %s", flag, code, errs.String())
		}
	}
}
