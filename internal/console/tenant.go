package console

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// Tenant is a tenant's id, as events have it, and its name.
type Tenant struct{ ID, Name string }

// tenants keeps the names of tenants. While they cannot be read, those that were read last are used.
type tenants struct {
	read func(context.Context) ([]Tenant, error)
	keep time.Duration
	now  func() time.Time

	mu    sync.Mutex // held while they are read: others wait for the same answer
	list  []Tenant
	names map[string]string
	until time.Time
}

// retryTenants is how long what could not be read is not read again.
const retryTenants = 10 * time.Second

func newTenants(read func(context.Context) ([]Tenant, error), keep time.Duration) *tenants {
	return &tenants{read: read, keep: keep, now: time.Now}
}

// all returns the tenants in their order, and their names by id. The error is why they may be old.
func (t *tenants) all(ctx context.Context) ([]Tenant, map[string]string, error) {
	if t.read == nil {
		return nil, nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now().Before(t.until) {
		return t.list, t.names, nil
	}
	list, err := t.read(ctx)
	if err != nil {
		t.until = t.now().Add(min(retryTenants, t.keep))
		return t.list, t.names, err
	}
	t.list, t.names, t.until = list, make(map[string]string, len(list)), t.now().Add(t.keep)
	for _, n := range list {
		t.names[n.ID] = n.Name
	}
	return t.list, t.names, nil
}

// tenantName is the tenant's name, its id when it has none.
func (v *visit) tenantName(id string) string { return v.tenantNames([]string{id})[0] }

// tenantNames are the names of tenants, the id of one without.
func (v *visit) tenantNames(ids []string) []string {
	_, names, err := v.tenants.all(v.ctx())
	if err != nil {
		v.log(err)
	}
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = cmp.Or(names[id], id)
	}
	return out
}
