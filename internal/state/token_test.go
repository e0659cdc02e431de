package state_test

import (
	"crypto/sha256"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"gancho/internal/state"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	made, text, err := s.CreateToken(ctx, "cli:ana", state.Token{Name: "suporte", Role: state.Operator, Tenant: "São €", Expires: expires})
	check(t, err)
	if !regexp.MustCompile(`^gancho_[0-9A-Za-z]{43}$`).MatchString(text) {
		t.Errorf("the token is %q", text)
	}
	_, other, err := s.CreateToken(ctx, "cli:ana", state.Token{Name: "admin", Role: state.Admin})
	check(t, err)
	if text == other {
		t.Error("two tokens are the same")
	}
	_, _, err = s.CreateToken(ctx, "cli:ana", state.Token{Name: "admin", Role: state.Viewer})
	if !errors.Is(err, state.ErrConflict) {
		t.Errorf("the same name again: %v", err)
	}

	got := must[state.Token](t)(s.Authenticate(ctx, text))
	want := state.Token{ID: made.ID, Name: "suporte", Role: state.Operator, Tenant: "São €", Created: made.Created, Expires: expires, CreatedBy: "cli:ana"}
	same(t, "authenticated", want, got)
	if own := must[[]state.Token](t)(s.Tokens(ctx, "São €")); len(own) != 1 || own[0].Name != "suporte" {
		t.Errorf("the tenant's tokens are %v", own)
	}
	all := must[[]state.Token](t)(s.Tokens(ctx, ""))
	if len(all) != 2 || all[0].Name != "admin" || all[1].LastUsed.IsZero() || !all[0].LastUsed.IsZero() {
		t.Errorf("tokens: %+v", all)
	}

	// Within a minute its use is not written again.
	used := all[1].LastUsed
	must[state.Token](t)(s.Authenticate(ctx, text))
	same(t, "last use", used, must[[]state.Token](t)(s.Tokens(ctx, ""))[1].LastUsed)
	execute(t, dsn, `update gancho.tokens set last_used = now() - interval '61 seconds'`)
	must[state.Token](t)(s.Authenticate(ctx, text))
	if !must[[]state.Token](t)(s.Tokens(ctx, ""))[1].LastUsed.After(used) {
		t.Error("its use after a minute was not written")
	}

	for _, wrong := range []string{
		"", "gancho_", strings.ToLower(text), text[:len(text)-1], text + "0", text[:len(text)-1] + "!", " " + text, strings.Repeat("x", 1<<20), "gancho_" + strings.Repeat("0", 43),
	} {
		if wrong == text {
			continue
		}
		_, err := s.Authenticate(ctx, wrong)
		if !errors.Is(err, state.ErrNotFound) || len(wrong) > 20 && strings.Contains(err.Error(), wrong) {
			t.Errorf("a wrong token: %v", err)
		}
	}
	hash := func(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }
	valid := func(texts ...string) map[[sha256.Size]byte]bool {
		var asked [][sha256.Size]byte
		for _, text := range texts {
			asked = append(asked, hash(text))
		}
		return must[map[[sha256.Size]byte]bool](t)(s.ValidTokens(ctx, asked))
	}
	if v := valid(text, text+"x"); len(v) != 1 || !v[hash(text)] {
		t.Errorf("of a valid token and another one, valid are %v", v)
	}
	execute(t, dsn, `update gancho.tokens set expires = now() - interval '1 second' where name = 'suporte'`)
	if v := valid(text, other); len(v) != 1 || !v[hash(other)] {
		t.Errorf("of an expired token and a valid one, valid are %v", v)
	}
	if _, err := s.Authenticate(ctx, text); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("an expired token: %v", err)
	}
	if err := s.RevokeToken(ctx, "cli:ana", "admin", "São €"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("a tenant revokes an operator's token: %v", err)
	}
	check(t, s.RevokeToken(ctx, "cli:ana", "admin", ""))
	if _, err := s.Authenticate(ctx, other); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("a revoked token: %v", err)
	}
	if err := s.RevokeToken(ctx, "cli:ana", "admin", ""); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("revoking again: %v", err)
	}
	var changes []string
	for _, c := range must[[]state.Change](t)(s.Audit(ctx, state.AuditFilter{}, 0, 10)) {
		changes = append(changes, c.Action+" "+c.Object+" "+c.Tenant)
	}
	same(t, "audit", []string{"token.revoke token/admin ", "token.create token/admin ", "token.create token/suporte São €"}, changes)
	notInClear(t, dsn, text, other)
}

func TestRoles(t *testing.T) {
	t.Parallel()
	order := []state.Role{state.Viewer, state.Operator, state.Admin}
	for i, a := range order {
		for j, b := range order {
			if a.Covers(b) != (i >= j) {
				t.Errorf("%s covers %s: %v", a, b, a.Covers(b))
			}
		}
		if unknown := state.Role("root"); a.Covers(unknown) || unknown.Covers(a) || unknown.Valid() || !a.Valid() {
			t.Errorf("%s and an unknown role", a)
		}
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	began := time.Now().Add(-time.Second)
	var want []state.Change
	for _, c := range []state.Change{
		{Actor: "cli:ana", Action: "endpoint.activate", Object: "endpoint/crm", Tenant: "1", Before: []byte(`{"paused":"410 \u00e9"}`)},
		{Actor: "token:suporte €", Action: "endpoint.test", Object: "endpoint/erp", Tenant: "2", After: []byte(`{"status":200}`)},
		{Actor: "bridge", Action: "endpoint.test", Object: "endpoint/erp"},
	} {
		check(t, s.Record(ctx, c))
		want = append(want, c)
	}
	list := func(f state.AuditFilter, before int64, n int) (out []state.Change) {
		t.Helper()
		for _, c := range must[[]state.Change](t)(s.Audit(ctx, f, before, n)) {
			if c.ID == 0 || c.Time.Before(began) {
				t.Errorf("an entry without its id or time: %+v", c)
			}
			c.ID, c.Time = 0, time.Time{}
			out = append(out, c)
		}
		return out
	}
	newest := []state.Change{want[2], want[1], want[0]}
	same(t, "all", newest, list(state.AuditFilter{}, 0, 10))
	second := must[[]state.Change](t)(s.Audit(ctx, state.AuditFilter{}, 0, 10))[1].ID
	same(t, "second page", newest[2:], list(state.AuditFilter{}, second, 10))
	same(t, "limit", newest[:1], list(state.AuditFilter{}, 0, 1))
	same(t, "a tenant's", newest[1:2], list(state.AuditFilter{Tenant: pointer("2")}, 0, 10))
	same(t, "no tenant's", newest[:1], list(state.AuditFilter{Tenant: pointer("")}, 0, 10))
	same(t, "an object's", newest[:2], list(state.AuditFilter{Object: "endpoint/erp"}, 0, 10))
	same(t, "an action's", newest[2:], list(state.AuditFilter{Action: "endpoint.activate"}, 0, 10))
	same(t, "of now", newest, list(state.AuditFilter{From: began, To: time.Now().Add(time.Minute)}, 0, 10))
	same(t, "of before", []state.Change(nil), list(state.AuditFilter{To: began}, 0, 10))

	// Who reads something twice has one entry for it.
	read := state.Change{Actor: "token:suporte €", Action: "dead.read", Object: "dead/1", Tenant: "1"}
	other, later := read, read
	other.Actor, later.Object = "cli:ana", "dead/2"
	for _, c := range []state.Change{read, read, other, later, read, later} {
		check(t, s.RecordRead(ctx, c))
	}
	same(t, "read", []state.Change{later, other, read}, list(state.AuditFilter{Action: "dead.read"}, 0, 10))
}
