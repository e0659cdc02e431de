package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"gancho/internal/state"
)

// maxTokenName bounds a token's name, in bytes.
const maxTokenName = 63

// CreatedToken is a token with its text, which is shown this once.
type CreatedToken struct {
	state.Token
	Text string `json:"token"`
}

// CreateToken creates a token of n's Name, Role, Tenant and Expires. Its text is
// in the answer, this once. A tenant's token creates tokens of its tenant only,
// which is also the tenant when none is named. Needs Admin.
func (s *Service) CreateToken(ctx context.Context, a Actor, n state.Token) (CreatedToken, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return CreatedToken{}, err
	}
	if n.Tenant == "" {
		n.Tenant = a.Tenant
	}
	var problems []Problem
	wrong := func(pointer, hint, message string) {
		problems = append(problems, Problem{Pointer: pointer, Message: message, Hint: hint})
	}
	if n.Name == "" || len(n.Name) > maxTokenName || strings.Trim(n.Name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		wrong("/name", "use up to 63 lower-case letters, digits, - _ and .", "this cannot be the name of a token")
	}
	if !n.Role.Valid() {
		wrong("/role", "write viewer, operator or admin", "this role does not exist")
	}
	if a.Tenant != "" && n.Tenant != a.Tenant {
		wrong("/tenant", "leave it out", "a tenant's token creates tokens of its own tenant")
	}
	if !n.Expires.IsZero() && !n.Expires.After(time.Now()) {
		wrong("/expires", "write a time in the future", "the token would have expired already")
	}
	if problems != nil {
		return CreatedToken{}, &InvalidError{Problems: problems}
	}
	t, text, err := store.CreateToken(ctx, a.Name, n)
	if err != nil {
		return CreatedToken{}, err
	}
	return CreatedToken{t, text}, nil
}

// Tokens lists the tokens, by name. Needs Admin.
func (s *Service) Tokens(ctx context.Context, a Actor) ([]state.Token, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return nil, err
	}
	tokens, err := store.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(tokens, func(a, b state.Token) int { return strings.Compare(a.Name, b.Name) })
	return slices.DeleteFunc(tokens, func(t state.Token) bool { return a.Tenant != "" && t.Tenant != a.Tenant }), nil
}

// RevokeToken revokes a token: its next request is refused. Needs Admin.
func (s *Service) RevokeToken(ctx context.Context, a Actor, name string) error {
	tokens, err := s.Tokens(ctx, a)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(tokens, func(t state.Token) bool { return t.Name == name }) {
		return state.ErrNotFound
	}
	return s.Store.RevokeToken(ctx, a.Name, name)
}
