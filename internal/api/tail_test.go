package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// A tail has what was stored while it lasts, and of a tenant nothing but its own.
func TestTail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addEndpoint("one", "1")
	w.addEndpoint("two", "2")
	answers := map[string]chan *reply{}
	for _, token := range []string{"root", "admin-1"} {
		answer := make(chan *reply, 1)
		answers[token] = answer
		go func() { answer <- w.do("GET", "/tail?event=cobranca.*&seconds=4", token, "") }()
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ; len(answers["root"]) == 0; <-tick.C { // until they have ended: they begin when they are asked
		w.addAttempts("one", "1", 1)
		w.addAttempts("two", "2", 1)
	}
	all, own := string((<-answers["root"]).body), string((<-answers["admin-1"]).body)
	for _, name := range []string{"one", "two"} {
		if !strings.Contains(all, `"endpoint":"`+name+`"`) {
			t.Errorf("the tail of all has nothing of %s: %s", name, all)
		}
	}
	if strings.Contains(own, `"endpoint":"two"`) || !strings.Contains(own, `"endpoint":"one"`) {
		t.Errorf("a tenant's tail: %s", own)
	}
	if a := w.do("GET", "/tail?tenant=2", "admin-1", ""); a.status != http.StatusNotFound {
		t.Errorf("a tenant follows another: %d", a.status)
	}
}
