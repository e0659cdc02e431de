package state

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// tokenPrefix lets people, and scanners for leaked secrets, recognize a token.
	tokenPrefix = "gancho_"
	tokenBytes  = 32
	// tokenDigits are enough digits to base 62 for tokenBytes.
	tokenDigits = 43
)

// newTokenText returns the text of a new token: 256 random bits, so that a plain
// SHA-256 protects it as well as a slow hash would.
func newTokenText() string {
	raw := make([]byte, tokenBytes)
	_, _ = rand.Read(raw) // never fails: it ends the process rather than return weak bytes
	return fmt.Sprintf("%s%0*s", tokenPrefix, tokenDigits, new(big.Int).SetBytes(raw).Text(62))
}

// CreateToken creates a token of t's Name, Role, Tenant and Expires. It returns
// it with its text, which is not stored. ErrConflict: the name is taken; ErrLimit.
func (s *Store) CreateToken(ctx context.Context, actor string, t Token) (Token, string, error) {
	text := newTokenText()
	hash := sha256.Sum256([]byte(text))
	t.CreatedBy = actor
	err := s.write(ctx, fmt.Sprintf("create token %q", t.Name), func(tx pgx.Tx) error {
		if err := s.checkLimit(ctx, tx, t.Tenant, s.limits.Tokens, `select count(*) from gancho.tokens where tenant = $1`); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `insert into gancho.tokens (name, sha256, role, tenant, created_by, expires) values ($1, $2, $3, $4, $5, $6) returning id, created`,
			s.text.encode(t.Name), hash[:], string(t.Role), s.text.encode(t.Tenant), s.text.encode(actor), moment(t.Expires)).Scan(&t.ID, &t.Created)
		if isTaken(err) {
			return fmt.Errorf("%w: a token of this name exists", ErrConflict)
		}
		if err != nil {
			return err
		}
		return s.record(ctx, tx, &Change{Actor: actor, Tenant: t.Tenant, Action: "token.create", Object: "token/" + t.Name}, nil, t.facts())
	})
	if err != nil {
		return Token{}, "", err
	}
	t.Created = t.Created.UTC()
	return t, text, nil
}

const tokenColumns = `id, name, role, tenant, created, last_used, expires, created_by`

// Tokens returns the tenant's tokens ("": all) by name, also those that have expired.
func (s *Store) Tokens(ctx context.Context, tenant string) ([]Token, error) {
	w := &where{text: s.text}
	w.equal("tenant", orNil(tenant))
	return collect(ctx, s, "read tokens", `select `+tokenColumns+` from gancho.tokens`+w.sql()+` order by name`, w.args, scanToken)
}

func scanToken(row pgx.CollectableRow) (Token, error) {
	var t Token
	var used, expires *time.Time
	if err := row.Scan(&t.ID, &t.Name, &t.Role, &t.Tenant, &t.Created, &used, &expires, &t.CreatedBy); err != nil {
		return t, err
	}
	decodeIn(&t.Name, &t.Tenant, &t.CreatedBy)
	t.Created, t.LastUsed, t.Expires = t.Created.UTC(), utc(used), utc(expires)
	return t, nil
}

// RevokeToken deletes a token, with effect on the next request. ErrNotFound: it does not
// exist, or is not the tenant's ("": any).
func (s *Store) RevokeToken(ctx context.Context, actor, name, tenant string) error {
	return s.write(ctx, fmt.Sprintf("revoke token %q", name), func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `delete from gancho.tokens where name = $1 and $2 in ('', tenant) returning `+tokenColumns, s.text.encode(name), s.text.encode(tenant))
		t, err := pgx.CollectExactlyOneRow(rows, scanToken)
		if err != nil {
			return err
		}
		return s.record(ctx, tx, &Change{Actor: actor, Tenant: t.Tenant, Action: "token.revoke", Object: "token/" + t.Name}, t.facts(), nil)
	})
}

// ValidTokens returns which of these are the SHA-256 of the text of a valid token.
func (s *Store) ValidTokens(ctx context.Context, hashes [][sha256.Size]byte) (map[[sha256.Size]byte]bool, error) {
	asked := make([][]byte, len(hashes))
	for i := range hashes {
		asked[i] = hashes[i][:]
	}
	rows, err := collect(ctx, s, "look up tokens", `select sha256 from gancho.tokens where sha256 = any($1) and (expires is null or expires > now())`, []any{asked}, pgx.RowTo[[]byte])
	if err != nil {
		return nil, err
	}
	valid := make(map[[sha256.Size]byte]bool, len(rows))
	for _, row := range rows {
		valid[[sha256.Size]byte(row)] = true // one of those asked for: it has the size
	}
	return valid, nil
}

func (t *Token) facts() facts {
	f := facts{"role": t.Role, "tenant": t.Tenant}
	if !t.Expires.IsZero() {
		f["expires"] = t.Expires.UTC()
	}
	return f
}

// Authenticate returns the token that has this text: ErrNotFound when it does not
// exist or has expired. LastUsed is written at most once a minute.
func (s *Store) Authenticate(ctx context.Context, text string) (Token, error) {
	const what = "look up the token"
	if !strings.HasPrefix(text, tokenPrefix) || len(text) != len(tokenPrefix)+tokenDigits {
		return Token{}, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	// The index is on the hash: its timing does not reveal how much of a guess is right.
	hash := sha256.Sum256([]byte(text))
	var stored []byte
	var stale bool
	t, err := collectOne(ctx, s, what, `select sha256, last_used is null or last_used < now() - interval '1 minute', `+tokenColumns+`
		from gancho.tokens where sha256 = $1 and (expires is null or expires > now())`, []any{hash[:]}, func(row pgx.CollectableRow) (Token, error) {
		return scanToken(leadingColumns{row, []any{&stored, &stale}})
	})
	if err != nil {
		return Token{}, err
	}
	if subtle.ConstantTimeCompare(stored, hash[:]) != 1 {
		return Token{}, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	if stale {
		_, err := s.pool.Exec(ctx, `update gancho.tokens set last_used = now() where id = $1 and (last_used is null or last_used < now() - interval '1 minute')`, t.ID)
		if err != nil {
			return Token{}, fmt.Errorf("record that token %q was used: %w", t.Name, explain(err))
		}
	}
	return t, nil
}
