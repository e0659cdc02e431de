package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/presets"
	"gancho/internal/state"
)

// resolveTime bounds the question to DNS for the addresses of a change.
const resolveTime = 5 * time.Second

// publicDocument is what of an endpoint's document is not secret.
type publicDocument struct {
	URL    string   `json:"url"`
	Events []string `json:"events"`
}

func publicOf(e *found) publicDocument {
	var p publicDocument
	_ = json.Unmarshal(e.Public, &p) // it is the store's own JSON
	return p
}

// checkAddresses finds what is wrong with the URLs of a change: as they are written, and as DNS has their hosts now.
func (s *Service) checkAddresses(ctx context.Context, p *presets.Screen, own []found, changes []AddressChange) error {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	out := &InvalidError{}
	for i, c := range changes {
		if len(c.Actions) == 0 {
			continue
		}
		known := slices.IndexFunc(own, func(e found) bool { return e.Name == c.Endpoint })
		if known >= 0 && (c.URL == "" || c.URL == publicOf(&own[known]).URL) {
			continue
		}
		if problem := s.checkAddress(ctx, p, c.URL); problem != nil {
			problem.Pointer = fmt.Sprintf("/addresses/%d/url", i)
			out.Problems = append(out.Problems, *problem)
		}
	}
	if len(out.Problems) == 0 {
		return nil
	}
	return out
}

func (s *Service) checkAddress(ctx context.Context, p *presets.Screen, text string) *Problem {
	switch {
	case text == "":
		return &Problem{Code: CodeMissing, Message: "the url is missing", Hint: "write such as https://crm.example.com/hooks"}
	case strings.Contains(text, endpoint.Masked):
		return &Problem{Code: CodeHidden, Message: "*** only stands for a value that is not shown", Hint: "write the whole url"}
	}
	if m := p.Endpoint.CheckURL(text); m != nil {
		hint := m.Hint
		if m.Fault == endpoint.URLPrivate || m.Fault == endpoint.URLPlain {
			hint = "write an https:// url that is reached from the internet"
		}
		return &Problem{Code: string(m.Fault), Message: m.Message, Hint: hint}
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil // CheckURL has parsed it
	}
	addresses, err := s.resolve(ctx, u.Hostname())
	var fault *net.DNSError
	switch {
	case errors.As(err, &fault) && fault.IsNotFound:
		return &Problem{Code: CodeUnresolvable, Message: webhook.ToldTenants(webhook.ClassDNS, fault.Error()), Hint: "check how it is spelt"}
	case err != nil || len(addresses) == 0:
		return nil // it may answer later: the sender guards each connection
	}
	allowed := endpoint.SimplifyNetworks(p.Endpoint.AllowPrivate)
	if slices.ContainsFunc(addresses, func(at netip.Addr) bool { return endpoint.CheckAddress(at, allowed) == nil }) {
		return nil
	}
	return &Problem{Code: string(endpoint.URLPrivate), Message: webhook.ToldTenants(webhook.ClassRefused, "the address is private"), Hint: "write an https:// url that is reached from the internet"}
}

func (s *Service) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if at, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{at}, nil
	}
	if s.Resolve != nil {
		return s.Resolve(ctx, host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// FieldsView are the fields that every request to a tenant's endpoints has, without their values (***).
type FieldsView struct {
	Tenant string            `json:"tenant"`
	Fields map[string]string `json:"fields"`
}

const (
	// maxFields and maxFieldBytes bound the fields of a tenant: how many, and each value.
	maxFields     = 20
	maxFieldBytes = 1000
	// maxFieldTenant bounds the tenant's id, in bytes: it is in an index.
	maxFieldTenant = 500
)

// Fields returns the fields of a tenant's requests ("": the actor's). Needs Viewer.
func (s *Service) Fields(ctx context.Context, a Actor, tenant string) (FieldsView, error) {
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return FieldsView{}, err
	}
	if tenant, err = a.unitTenant(tenant); err != nil {
		return FieldsView{}, err
	}
	v := FieldsView{Tenant: tenant, Fields: map[string]string{}}
	all, err := store.Fields(ctx, tenant)
	if err != nil || len(all) == 0 {
		return v, err
	}
	if all[0].Sealed != nil {
		return v, all[0].Sealed
	}
	for name := range all[0].Fields {
		v.Fields[name] = endpoint.Masked
	}
	return v, nil
}

// ChangeFields sets fields of a tenant's requests, such as a validationtoken, and removes those that are nil. From then on every request to its endpoints has
// them, unless the endpoint has an extra field of that name or its format has no place for them. Needs Admin.
func (s *Service) ChangeFields(ctx context.Context, a Actor, tenant string, set map[string]*string) (FieldsView, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return FieldsView{}, err
	}
	if tenant, err = a.unitTenant(tenant); err != nil {
		return FieldsView{}, err
	}
	now, err := s.Fields(ctx, a, tenant)
	if err != nil {
		return FieldsView{}, err
	}
	change, err := checkFields(tenant, set, len(now.Fields))
	if err != nil {
		return FieldsView{}, err
	}
	if err := store.ChangeFields(ctx, a.Name, tenant, change); err != nil {
		return FieldsView{}, err
	}
	return s.Fields(ctx, a, tenant)
}

func checkFields(tenant string, set map[string]*string, there int) (map[string]*endpoint.Hidden, error) {
	var wrong problems
	out := map[string]*endpoint.Hidden{}
	extra := map[string]endpoint.Hidden{}
	for name, text := range set {
		out[name] = nil
		if text == nil {
			continue
		}
		if *text == "" || len(*text) > maxFieldBytes || strings.Contains(*text, endpoint.Masked) {
			wrong.add("fields"+endpoint.Pointer("", name), fmt.Sprintf("write the value itself, of 1 to %d bytes, or null to remove the field", maxFieldBytes), "this cannot be the value of a field")
		}
		v := endpoint.Hidden(*text)
		out[name], extra[name] = &v, v
	}
	e := endpoint.Endpoint{URL: "https://example.com/", Extra: extra}
	var m *endpoint.SettingError
	if errors.As(e.Check(), &m) {
		wrong.add("fields", m.Hint, m.Message)
	}
	if len(extra)+there > 2*maxFields || len(extra) > maxFields {
		wrong.add("fields", "remove one", fmt.Sprintf("a tenant has at most %d fields", maxFields))
	}
	if len(tenant) > maxFieldTenant {
		wrong.add("tenant", "set extra fields of its endpoints instead", fmt.Sprintf("fields are for tenants whose id has up to %d bytes", maxFieldTenant))
	}
	if len(set) == 0 {
		wrong.add("fields", `write such as {"validationtoken": "..."}`, "no field is named")
	}
	return out, wrong.err()
}

// withFields returns an endpoint with the fields of its tenant.
func (s *Service) withFields(ctx context.Context, e endpoint.Endpoint) (endpoint.Endpoint, error) {
	tenant := tenantOf(e.Tenants)
	if tenant == "" || s.Store == nil {
		return e, nil
	}
	all, err := s.Store.Fields(ctx, tenant)
	if err != nil || len(all) == 0 {
		return e, err
	}
	if all[0].Sealed != nil {
		return e, all[0].Sealed
	}
	return e.WithFields(all[0].Fields), nil
}
