package main

import (
	"cmp"
	"errors"
	"fmt"

	"gancho/config"
	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/bridge"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

// definitions are the rules and the endpoints of a configuration.
func definitions(c *config.Config) (*bridge.Definitions, error) {
	rules, err := parseRules(c)
	if err != nil {
		return nil, err
	}
	endpoints, err := fileEndpoints(c)
	if err != nil {
		return nil, err
	}
	if _, err := stateOptions(c); err != nil {
		return nil, err
	}
	return &bridge.Definitions{Rules: rules, Endpoints: endpoints}, nil
}

func parseRules(c *config.Config) (*mapping.Rules, error) {
	policy := mapping.Stop
	if c.Source.OnSchemaChange == "park" {
		policy = mapping.Park
	}
	secrets := map[string][]byte{}
	for name, secret := range c.Privacy.Secrets {
		secrets[name] = []byte(secret.Reveal())
	}
	return mapping.Parse(mapping.Options{Files: c.Rules, Deny: c.Privacy.Deny, Secrets: secrets, Location: c.Source.Location, OnSchemaChange: policy, Publication: c.Source.Publication})
}

// stateOptions say where Gancho's own database is; nil: the configuration has
// no state.key.
func stateOptions(c *config.Config) (*bridge.StateOptions, error) {
	if !c.State.On() {
		return nil, nil //nolint:nilnil // there is no state, which is no mistake
	}
	keys, err := state.ParseKeys(c.State.Key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s:%d: state.key: %w", c.File, c.State.KeyLine, err)
	}
	return &bridge.StateOptions{
		DSN: cmp.Or(c.State.DSN, c.Source.DSN).Reveal(), Keyring: keys, KeepEvents: c.State.KeepEvents, KeepLog: c.State.KeepLog,
	}, nil
}

// fileEndpoints turns the configuration's endpoints into delivery's, and reports
// everything that delivery has against any of them, with its place.
func fileEndpoints(c *config.Config) ([]control.FileEndpoint, error) {
	var problems []error
	out := make([]control.FileEndpoint, len(c.Endpoints))
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		d, err := endpointOf(e)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s:%d: %w", c.File, e.Line, err))
		}
		out[i].Spec = control.Spec{Endpoint: d, Document: e.Document(), Public: e.Public()}
	}
	return out, errors.Join(problems...)
}

// specOf reads an endpoint's document for control: it is control.Parse.
func specOf(origin string, document []byte) (control.Spec, error) {
	e, err := config.ParseEndpoint(origin, document)
	if err != nil {
		return control.Spec{}, err
	}
	name := e.Name
	e.Name = cmp.Or(name, origin) // for the messages
	d, err := endpointOf(&e)
	if err != nil {
		return control.Spec{}, err
	}
	d.Name = name
	return control.Spec{Endpoint: d, Document: e.Document(), Public: e.Public()}, nil
}

// endpointOf turns an endpoint of the configuration into delivery's, and
// reports what delivery has against it.
func endpointOf(e *config.Endpoint) (endpoint.Endpoint, error) {
	d := endpoint.Endpoint{
		Name: e.Name, URL: e.URL, Tenants: e.Tenants, Events: e.Events, Concurrency: e.Concurrency,
		Timeout: e.Timeout, Retry: e.Retry, RetryRefused: e.RetryRefused, MaxAge: e.MaxAge, PauseAfter: e.PauseAfter,
		Rate: e.Rate, AllowPrivate: e.AllowPrivate, AllowHTTP: e.AllowHTTP,
		Format: formats[e.Format], Order: orders[e.Order], State: states[e.State], OnExhausted: exhausted[e.OnExhausted],
		Headers: reveal(e.Headers), Extra: reveal(e.Extra), StringNumbers: e.Numbers == "string",
		Batch:   endpoint.Batching{Max: e.Batch.Max, Wait: e.Batch.Wait, PerTransaction: e.Batch.PerTransaction},
		Success: endpoint.Success{Status: e.Success.Status, Body: e.Success.Body},
		TLS:     endpoint.TLS{CA: []byte(e.TLS.CA), Certificate: []byte(e.TLS.Certificate), Key: []byte(e.TLS.Key.Reveal())},
		Proxy:   e.Proxy.Reveal(),
	}
	for _, s := range e.Secrets {
		secret, err := endpoint.ParseSecret(s.Reveal())
		if err != nil {
			return d, fmt.Errorf("endpoint %q: %w", e.Name, err)
		}
		d.Secrets = append(d.Secrets, secret)
	}
	return d, errors.Join(d.Check(), webhook.CheckAddress(&d))
}

func reveal(m map[string]config.Secret) map[string]string {
	out := make(map[string]string, len(m))
	for name, value := range m {
		out[name] = value.Reveal()
	}
	return out
}

// The words of the configuration; config has refused all others.
var (
	formats = map[string]endpoint.Format{
		"standard": endpoint.FormatStandard, "bare": endpoint.FormatBare, "form": endpoint.FormatForm,
		"cloudevents": endpoint.FormatCloudEvents, "cloudevents-binary": endpoint.FormatCloudEventsBinary,
	}
	orders = map[string]endpoint.Order{"key": endpoint.OrderKey, "endpoint": endpoint.OrderEndpoint, "none": endpoint.OrderNone}
	states = map[string]endpoint.State{"active": endpoint.Active, "paused": endpoint.Paused, "inactive": endpoint.Inactive}

	exhausted = map[string]endpoint.Exhausted{"dead_letter": endpoint.DeadLetter, "block": endpoint.Block, "pause": endpoint.Pause}
)
