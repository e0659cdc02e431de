package endpoint

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gancho/internal/strictyaml"
)

// Parse reads one endpoint from a document in JSON or YAML, with the keys of an
// endpoint in gancho.yaml. Only the url is required: name, state and secrets
// may come from elsewhere, and are zero when the document has none. It replaces
// no ${VARIABLES} and reads no files: documents come from people who may not
// read this process's environment. Mistakes are strictyaml.Errors under the
// origin.
func Parse(origin string, src []byte) (Endpoint, error) {
	if json.Valid(src) {
		src = asYAML(src)
	}
	d := strictyaml.Parse(origin, src, nil)
	var e Endpoint
	root := d.Root()
	if !root.Valid() && len(d.Errors()) == 0 {
		d.Add("it needs at least the url", "the document is empty")
	}
	if root.Valid() {
		e = decode(root, "")
	}
	if err := d.Errors().Err(); err != nil {
		return Endpoint{}, err
	}
	return e, nil
}

// DecodeList reads the endpoints of gancho.yaml, whose names differ. The files
// that they name are found relative to it. Mistakes are recorded in the value's
// document.
func DecodeList(v strictyaml.Value) []*Endpoint {
	items := v.List()
	all := make([]*Endpoint, 0, len(items))
	lines := map[string]int{}
	for _, item := range items {
		e := decode(item, filepath.Dir(item.File()))
		if first, ok := lines[e.Name]; ok && e.Name != "" {
			item.Errorf("give one of them another name", "there are two endpoints with the name %q, the other on line %d", e.Name, first)
		}
		lines[e.Name] = item.Line()
		all = append(all, &e)
	}
	return all
}

// DecodeSettings reads what several endpoints have in common: everything but what is each one's own, its name, url, tenants,
// sources, events, state and signing keys. Mistakes are recorded in the value's document.
func DecodeSettings(v strictyaml.Value) Endpoint {
	for _, e := range v.Entries() {
		if slices.Contains([]string{"name", "url", "tenants", "sources", "events", "state", "secret", "secrets"}, e.Name) {
			e.Key.Errorf("remove it", "%s is each endpoint's own", e.Name)
		}
	}
	return decodeFields(v, "", strictyaml.Optional, strictyaml.Optional)
}

// decode reads an endpoint of a file in dir; or, when dir is empty, a document,
// which may lack name and secrets and must not name files.
func decode(v value, dir string) Endpoint {
	name := strictyaml.Required
	if dir == "" {
		name = strictyaml.Optional
	}
	return decodeFields(v, dir, name, strictyaml.Required)
}

// decodeFields is decode, with name and url required or not.
func decodeFields(v value, dir string, name, where func(string, func(value)) strictyaml.Field) Endpoint {
	var e Endpoint
	var secret, secrets bool
	var address, headers, extra, batch, order, compact, tls, signatures, auth, media, format, fields value
	e.decodeStyle(v)
	v.Map(
		name("name", func(v value) {
			if e.Name = v.Text(); e.Name != "" {
				CheckName(e.Name).at(v)
			}
		}),
		where("url", func(v value) { address = v }),
		strictyaml.Optional("tenants", func(v value) { e.Tenants = nonEmpty(v, "tenants") }),
		strictyaml.Optional("sources", func(v value) { e.Sources = decodeSources(v) }),
		strictyaml.Optional("events", func(v value) { e.Events = decodeEvents(v) }),
		strictyaml.Optional("secret", func(v value) { secret, e.Secrets = true, append(e.Secrets, decodeSecret(v)) }),
		strictyaml.Optional("secrets", func(v value) {
			secrets = true
			items := v.List()
			if len(items) > MaxKeys {
				v.Errorf("leave out the oldest", "%d keys are too many: at most %d", len(items), MaxKeys)
				items = items[:MaxKeys]
			}
			for _, item := range items {
				e.Secrets = append(e.Secrets, decodeSecret(item))
			}
		}),
		strictyaml.Optional("signatures", func(v value) { signatures, e.Signatures = v, decodeSignatures(v) }),
		strictyaml.Optional("standard", func(v value) { e.NoStandard = !v.Bool() }),
		strictyaml.Optional("auth", func(v value) { auth = v; e.Auth.decode(v) }),
		strictyaml.Optional("headers", func(v value) { headers = v }),
		strictyaml.Optional("content_type", func(v value) { media, e.ContentType = v, v.Text() }),
		strictyaml.Optional("style", func(value) {}), // decodeStyle has read it
		strictyaml.Optional("format", func(v value) { format = v; e.Format = choice[Format](v, formatNames[:FormatChat]) }),
		strictyaml.Optional("fields", func(v value) { fields = v; e.Fields = v.Texts() }),
		strictyaml.Optional("extra", func(v value) { extra = v }),
		strictyaml.Optional("numbers", func(v value) { e.StringNumbers = v.Choice("exact", "string") == "string" }),
		strictyaml.Optional("batch", func(v value) { batch = v; e.Batch.decode(v) }),
		strictyaml.Optional("success", func(v value) { e.Success = decodeSuccess(v) }),
		strictyaml.Optional("order", func(v value) { order = v; e.Order = choice[Order](v, orderNames) }),
		strictyaml.Optional("compact", func(v value) { compact = v; e.Compact = v.Choice("none", compactKey) == compactKey }),
		strictyaml.Optional("state", func(v value) { e.State = choice[State](v, stateNames) }),
		strictyaml.Optional("on_exhausted", func(v value) { e.OnExhausted = choice[Exhausted](v, exhaustedNames) }),
		strictyaml.Optional("concurrency", func(v value) { e.Concurrency = v.Int(1, maxConcurrency) }),
		strictyaml.Optional("timeout", func(v value) { e.Timeout = v.Duration(minTimeout, maxTimeout) }),
		strictyaml.Optional("retry", func(v value) { e.Retry = decodeRetry(v) }),
		strictyaml.Optional("retry_refused", func(v value) { e.RetryRefused = decodeRetry(v) }),
		strictyaml.Optional("max_age", func(v value) { e.MaxAge = v.Duration(minAge, maxAge) }),
		strictyaml.Optional("pause_after", func(v value) { e.PauseAfter = decodePauseAfter(v) }),
		strictyaml.Optional("rate", func(v value) { e.Rate = v.Rate() }),
		strictyaml.Optional("closing", func(v value) { e.Closing = decodeClosing(v) }),
		strictyaml.Optional("allow_private", func(v value) {
			for _, item := range v.ListOrOne() {
				e.AllowPrivate = append(e.AllowPrivate, item.Prefix())
			}
		}),
		strictyaml.Optional("allow_http", func(v value) { e.AllowHTTP = v.Bool() }),
		strictyaml.Optional("http", func(v value) { e.HTTP1 = v.Choice("auto", "1.1") == "1.1" }),
		strictyaml.Optional("tls", func(v value) { tls = v; e.TLS.decode(v, dir) }),
		strictyaml.Optional("proxy", func(v value) { e.Proxy = decodeProxy(v) }),
	)
	switch {
	case secret && secrets:
		v.Errorf("write all of them in secrets, the newest first", `"secret" and "secrets" are both given`)
	case v.IsMap() && len(e.Secrets) == 0 && dir != "" && e.SignsAnything():
		v.Errorf("write such as secret: ${CRM_SECRET}; create one with: echo whsec_$(openssl rand -base64 32)", `the key "secret" is missing`)
	}
	// What depends on other keys.
	if address.Valid() {
		e.URL = e.decodeURL(address)
		scheme, _, _ := strings.Cut(e.URL, ":")
		e.TLS.checkScheme(scheme).at(tls)
		e.checkURLTemplate().at(address)
	}
	if headers.Valid() {
		e.decodeHeaders(headers)
	}
	if media.Valid() {
		e.checkContentType().at(media)
	}
	for _, m := range e.checkSignatures() {
		m.at(signatures)
	}
	e.CheckSecrets(e.Secrets).at(signatures)
	for _, m := range e.checkAuth() {
		m.at(auth)
	}
	if extra.Valid() {
		e.Extra = decodeExtra(extra, e.Format)
	}
	e.checkStyle(v)
	if m := e.checkChat(); m != nil {
		at := v
		for _, part := range []value{format, fields} {
			if part.Valid() {
				at = part
			}
		}
		m.at(at)
	}
	if batch.Valid() {
		checkLists(e.Format).at(batch)
		if order.Valid() && e.Order != OrderEndpoint && order.Choice(orderNames...) != "" {
			order.Errorf("remove it, or remove batch", "lists are sent one after the other: with batch the order is endpoint, not %s", e.Order)
		}
	}
	if compact.Valid() {
		e.checkCompact().at(compact)
	}
	return e.WithDefaults()
}

// choice returns the value whose name is written, by its place among the names;
// 0 after an error.
func choice[E ~uint8](v value, names []string) E {
	return E(max(0, slices.Index(names, v.Choice(names...))))
}

func nonEmpty(v value, name string) []string {
	texts := v.Texts()
	if len(texts) == 0 {
		v.Errorf("remove the key to receive all", "%q is an empty list, with which the endpoint would receive nothing", name)
	}
	return texts
}

// CheckName returns what is wrong with an endpoint's name, or nil. It is part of
// Redis keys, logs and metrics.
func CheckName(name string) *SettingError {
	const first = "abcdefghijklmnopqrstuvwxyz0123456789"
	if name == "" || len(name) > maxName || !strings.Contains(first, name[:1]) || strings.Trim(name, first+"-_") != "" {
		return mistakef("use lower-case letters, digits, - and _, such as crm-centro", "%q cannot be the name of an endpoint", name)
	}
	return nil
}

func decodeEvents(v value) []string {
	patterns := nonEmpty(v, "events")
	for i, item := range v.ListOrOne() {
		if strings.ContainsAny(patterns[i], " \t\n?[]{}") {
			item.Errorf("write such as cobranca.* or cliente.novo", "%q is not a pattern of event names", patterns[i])
		}
	}
	return patterns
}

func decodeSources(v value) []string {
	patterns := nonEmpty(v, "sources")
	for i, item := range v.ListOrOne() {
		if strings.Trim(patterns[i], "abcdefghijklmnopqrstuvwxyz0123456789_-*") != "" {
			item.Errorf("write such as cliente_* or cliente_001", "%q is not a pattern of sources' names", patterns[i])
		}
	}
	return patterns
}

func decodeRetry(v value) []time.Duration {
	items := v.List()
	if len(items) > maxRetries {
		v.Errorf("", "%d retries are too many: at most %d", len(items), maxRetries)
	}
	waits := make([]time.Duration, 0, len(items))
	for _, item := range items {
		waits = append(waits, item.Duration(minRetryWait, maxRetryWait))
	}
	return waits
}

// decodePauseAfter reads a duration or never, which is a negative one.
func decodePauseAfter(v value) time.Duration {
	if v.Is(never) {
		return -1
	}
	return v.Duration(minAge, maxAge)
}

const never = "never"

// decode reads batch: {max, wait, per}.
func (b *Batching) decode(v value) {
	v.Map(
		strictyaml.Required("max", func(v value) { b.Max = v.Int(2, maxBatch) }),
		strictyaml.Optional("wait", func(v value) { b.Wait = v.Duration(0, maxBatchWait) }),
		strictyaml.Optional("per", func(v value) { b.PerTransaction = v.Choice("transaction") != "" }),
	)
}

func (b Batching) check(f Format) *SettingError {
	switch {
	case b.Max < 0 || b.Max > maxBatch:
		return mistakef(fmt.Sprintf("use 1 to %d", maxBatch), "the max of batch is %d", b.Max)
	case b.Wait < 0:
		return mistakef("use 0 for what is there, or such as 500ms", "the wait of batch is negative")
	case b.Max > 1:
		return checkLists(f)
	}
	return nil
}

func checkLists(f Format) *SettingError {
	if f.HasLists() {
		return nil
	}
	return mistakef("use the format standard, bare or cloudevents", "a request of the format %s holds one event, so there is no batch", f)
}

// refuseMask refuses what is shown in the place of a secret: it is a copy of
// what was read somewhere, and would overwrite the secret.
func refuseMask(v value, text string) {
	if text == Masked {
		v.Errorf("write the value itself", "*** only stands for a value that is not shown")
	}
}
