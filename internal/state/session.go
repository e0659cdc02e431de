package state

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// SessionIdle ends a session that is not used, SessionLife any.
	SessionIdle = 12 * time.Hour
	SessionLife = 30 * 24 * time.Hour
	// LinkOpen is how long a link may be used after its first opening: what opens it
	// before its reader, such as a mail filter, does not use it up.
	LinkOpen = time.Minute
)

// Session is somebody who has signed in to the console. Its secret is in the cookie, and its SHA-256 here.
type Session struct {
	ID int64 `json:"id"`
	// TokenID is of the token that it was begun with and ends with; 0: of none.
	TokenID   int64     `json:"-"`
	Actor     string    `json:"actor"`
	Role      Role      `json:"role"`
	Tenant    string    `json:"tenant,omitempty"` // empty: all
	ReturnURL string    `json:"return_url,omitempty"`
	Created   time.Time `json:"created"`
	LastUsed  time.Time `json:"last_used"`
	Expires   time.Time `json:"expires"`
}

// ConsoleLink begins a session, once.
type ConsoleLink struct {
	Session
	// Language and Theme are those of the console for its user; empty: the user's own.
	Language, Theme string
}

// newSecret returns 256 random bits as text.
func newSecret() string {
	raw := make([]byte, tokenBytes)
	_, _ = rand.Read(raw) // never fails: it ends the process rather than return weak bytes
	return base64.RawURLEncoding.EncodeToString(raw)
}

func hashOf(secret string) []byte {
	hash := sha256.Sum256([]byte(secret))
	return hash[:]
}

// CreateLink stores a link of the link's TokenID, Actor, Role, Tenant, ReturnURL, Language, Theme and Expires, and returns its
// secret, which is not stored. Links that have expired are deleted.
func (s *Store) CreateLink(ctx context.Context, l ConsoleLink) (secret string, err error) {
	secret = newSecret()
	err = s.write(ctx, "create a link into the console", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `delete from gancho.console_links where expires < now()`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `insert into gancho.console_links (sha256, token, actor, role, tenant, return_url, language, theme, expires) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			hashOf(secret), orNull(l.TokenID), s.text.encode(l.Actor), string(l.Role), s.text.encode(l.Tenant), s.text.encode(l.ReturnURL), l.Language, l.Theme, l.Expires)
		if err != nil {
			return err
		}
		return s.record(ctx, tx, &Change{Actor: l.Actor, Tenant: l.Tenant, Action: "console.link", Object: "console"}, nil, facts{"role": l.Role, "tenant": l.Tenant, "expires": l.Expires.UTC()})
	})
	return secret, err
}

// OpenLink notes that a link was opened: it may be used for LinkOpen from the first time on. ErrNotFound: it does
// not exist, was used, or has expired.
func (s *Store) OpenLink(ctx context.Context, secret string) (ConsoleLink, error) {
	// A second opening changes nothing, because the link ends before LinkOpen after that.
	return collectOne(ctx, s, "open a link into the console", `update gancho.console_links set expires = least(expires, now() + $2::interval)
		where sha256 = $1 and expires > now() returning token, actor, role, tenant, return_url, language, theme, expires`, []any{hashOf(secret), LinkOpen}, scanLink)
}

func scanLink(row pgx.CollectableRow) (l ConsoleLink, err error) {
	var token *int64
	if err = row.Scan(&token, &l.Actor, &l.Role, &l.Tenant, &l.ReturnURL, &l.Language, &l.Theme, &l.Expires); err != nil {
		return l, err
	}
	decodeIn(&l.Actor, &l.Tenant, &l.ReturnURL)
	if token != nil {
		l.TokenID = *token
	}
	return l, nil
}

// UseLink begins the session of a link, and deletes the link. It returns both, and the session's secret.
// ErrNotFound as of OpenLink.
func (s *Store) UseLink(ctx context.Context, secret string) (l ConsoleLink, session string, err error) {
	session = newSecret()
	err = s.write(ctx, "use a link into the console", func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `delete from gancho.console_links where sha256 = $1 and expires > now()
			returning token, actor, role, tenant, return_url, language, theme, expires`, hashOf(secret))
		if l, err = pgx.CollectExactlyOneRow(rows, scanLink); err != nil {
			return err
		}
		l.Expires = time.Time{} // the link's
		l.Session, err = s.beginSession(ctx, tx, session, l.Session)
		return err
	})
	return l, session, err
}

// BeginSession begins a session with a token, until the token expires.
func (s *Store) BeginSession(ctx context.Context, t Token) (begun Session, secret string, err error) {
	secret = newSecret()
	err = s.write(ctx, "begin a session", func(tx pgx.Tx) error {
		begun, err = s.beginSession(ctx, tx, secret, Session{TokenID: t.ID, Actor: "token:" + t.Name, Role: t.Role, Tenant: t.Tenant})
		return err
	})
	return begun, secret, err
}

const sessionColumns = `id, token, actor, role, tenant, return_url, created, last_used, expires`

// sessionLives is the condition of those that have not ended. Its parameter is SessionIdle.
const sessionLives = `expires > now() and last_used > now() - %s::interval`

func (s *Store) beginSession(ctx context.Context, tx pgx.Tx, secret string, b Session) (Session, error) {
	_, err := tx.Exec(ctx, `delete from gancho.sessions where not (`+fmt.Sprintf(sessionLives, "$1")+`)`, SessionIdle)
	if err != nil {
		return b, err
	}
	rows, _ := tx.Query(ctx, `insert into gancho.sessions (sha256, token, actor, role, tenant, return_url, expires)
		values ($1, $2, $3, $4, $5, $6, least(now() + $7::interval, (select expires from gancho.tokens where id = $2))) returning `+sessionColumns,
		hashOf(secret), orNull(b.TokenID), s.text.encode(b.Actor), string(b.Role), s.text.encode(b.Tenant), s.text.encode(b.ReturnURL), SessionLife)
	if b, err = pgx.CollectExactlyOneRow(rows, scanSession); err != nil {
		return b, err
	}
	return b, s.record(ctx, tx, &Change{Actor: b.Actor, Tenant: b.Tenant, Action: "session.begin", Object: fmt.Sprint("session/", b.ID)}, nil, facts{"role": b.Role, "tenant": b.Tenant})
}

func scanSession(row pgx.CollectableRow) (b Session, err error) {
	var token *int64
	if err = row.Scan(&b.ID, &token, &b.Actor, &b.Role, &b.Tenant, &b.ReturnURL, &b.Created, &b.LastUsed, &b.Expires); err != nil {
		return b, err
	}
	decodeIn(&b.Actor, &b.Tenant, &b.ReturnURL)
	if token != nil {
		b.TokenID = *token
	}
	b.Created, b.LastUsed, b.Expires = b.Created.UTC(), b.LastUsed.UTC(), b.Expires.UTC()
	return b, nil
}

// Session returns the session of a secret: ErrNotFound when there is none, or it has ended. LastUsed is written at
// most once a minute.
func (s *Store) Session(ctx context.Context, secret string) (Session, error) {
	const what = "look up a session"
	var stale bool
	b, err := collectOne(ctx, s, what, `select last_used < now() - interval '1 minute', `+sessionColumns+` from gancho.sessions
		where sha256 = $1 and `+fmt.Sprintf(sessionLives, "$2"), []any{hashOf(secret), SessionIdle}, func(row pgx.CollectableRow) (Session, error) {
		return scanSession(leadingColumns{row, []any{&stale}})
	})
	if err == nil && stale {
		if _, err = s.pool.Exec(ctx, `update gancho.sessions set last_used = now() where id = $1`, b.ID); err != nil {
			return Session{}, fmt.Errorf("record that a session was used: %w", explain(err))
		}
	}
	return b, err
}

// Sessions returns up to n of the tenant's sessions ("": of all) that have not ended, those used last first.
func (s *Store) Sessions(ctx context.Context, tenant string, n int) ([]Session, error) {
	return collect(ctx, s, "read sessions", `select `+sessionColumns+` from gancho.sessions
		where `+fmt.Sprintf(sessionLives, "$1")+` and $2 in ('', tenant) order by last_used desc, id limit $3`, []any{SessionIdle, s.text.encode(tenant), n}, scanSession)
}

// EndSession ends a session, with effect on the next request. ErrNotFound: it does not exist, or is not the tenant's
// ("": any).
func (s *Store) EndSession(ctx context.Context, actor string, id int64, tenant string) error {
	return s.write(ctx, "end a session", func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `delete from gancho.sessions where id = $1 and $2 in ('', tenant) returning `+sessionColumns, id, s.text.encode(tenant))
		b, err := pgx.CollectExactlyOneRow(rows, scanSession)
		if err != nil {
			return err
		}
		return s.record(ctx, tx, &Change{Actor: actor, Tenant: b.Tenant, Action: "session.end", Object: fmt.Sprint("session/", b.ID)}, facts{"role": b.Role, "tenant": b.Tenant, "of": b.Actor}, nil)
	})
}

// orNull is an id that is null when it is 0.
func orNull(id int64) *int64 {
	if id == 0 {
		return nil
	}
	return &id
}
