package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/control"
	"gancho/internal/state"
)

// TestDeadOfSource: dead letters of one of many databases are listed, shown, counted, sent again and dropped with --source, here and over the API; those of the
// others stay.
func TestDeadOfSource(t *testing.T) {
	t.Parallel()
	w := newManyWorld(t)
	w.names = w.names[:2]
	first, second := w.names[0], w.names[1]
	dead := map[string]int{first: 2, second: 3}
	r := newReceiver(t, func(out http.ResponseWriter, a arrival) {
		source := second
		if strings.Contains(string(a.body), `"tenant":"`+first+"/") {
			source = first
		}
		if n, err := strconv.Atoi(a.field("id")); err != nil || n > dead[source] {
			return
		}
		out.Header().Set("webhook-delivery", "abort")
		out.WriteHeader(http.StatusTeapot)
	})
	w.endpoint("crm", r.url())
	s := &session{world: w.world, path: w.write()}
	b := w.start("run", "--create", "--config", s.path)
	b.waitLog("sources taken up")
	w.waitSlots("gancho_"+first, "gancho_"+second)
	for name := range dead {
		if err := pg.Exec(t.Context(), name, "insert into clientes select i, 7, 'x' from generate_series(10, 1, -1) i"); err != nil {
			t.Fatal(err)
		}
	}
	r.waitCount(20)
	d := &manyDesk{many: w, desk: &desk{session: s, address: "http://" + b.listening(), tried: map[string]bool{}}}
	d.login(d.address, "mesa", "admin")
	root := d.token("raiz", "")
	letters := func(query string) (ids []int64) {
		var v page[state.DeadLetter]
		if err := json.Unmarshal(d.api(root, http.StatusOK, http.MethodGet, "/dead-letters"+query, ""), &v); err != nil {
			t.Fatal(err)
		}
		for _, letter := range v.Items {
			ids = append(ids, letter.ID)
			if source := control.SourceOf(letter.Tenant); query != "" && source != query[strings.Index(query, "=")+1:] {
				t.Errorf("%s has a letter of %s", query, source)
			}
		}
		return ids
	}
	queuetest.Eventually(t, "the dead letters to be stored", func() bool { return len(letters("")) == 5 })
	of := func(source string, args ...string) []string { return append(args, "--source", source) }
	for source, want := range dead {
		if ids := letters("?source=" + url.QueryEscape(source)); len(ids) != want {
			t.Errorf("%s has the dead letters %v, want %d", source, ids, want)
		}
		d.same(0, of(source, "dead", "list")...)
		d.same(0, of(source, "dead", "groups")...)
		if _, stdout, stderr := d.far(of(source, "dead", "redrive", "--all", "--dry-run")...); !strings.Contains(stdout+stderr, fmt.Sprint(want)) {
			t.Errorf("a redrive of %s would be of others: %s%s", source, stdout, stderr)
		}
	}
	d.same(0, "dead", "list")
	ofSecond := fmt.Sprint(letters("?source=" + second)[0])
	d.same(0, of(second, "dead", "show", ofSecond)...)
	if code, _, stderr := d.far(of(first+"x", "dead", "list")...); code != 2 || !strings.Contains(stderr, "there is no source") {
		t.Errorf("a source that there is not: exit %d: %s", code, stderr)
	}
	for _, source := range []string{first, second} {
		want := map[bool]int{true: 0, false: 1}[source == second]
		if code, _, stderr := d.far(of(source, "dead", "show", ofSecond)...); (code != 0) != (want != 0) {
			t.Errorf("letter %s of %s is shown with --source %s: exit %d\n%s", ofSecond, second, source, code, stderr)
		}
	}
	d.api(root, http.StatusNotFound, http.MethodDelete, "/dead-letters/"+ofSecond+"?source="+first, "")
	if code, stdout, stderr := d.far(of(first, "dead", "drop", "--all", "--yes")...); code != 0 {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if left := len(letters("")); left != 3 || len(letters("?source="+second)) != 3 {
		t.Errorf("%d dead letters are left, want the 3 of %s", left, second)
	}
	d.api(root, http.StatusAccepted, http.MethodPost, "/dead-letters/redrive?source="+first, `{"all": true}`)
	if left := len(letters("")); left != 3 {
		t.Errorf("a redrive of %s has sent those of %s again: %d are left", first, second, left)
	}
	b.stop()
}
