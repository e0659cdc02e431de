package config

import (
	"encoding/base64"
	"net/netip"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"gancho/internal/strictyaml"
)

// Bounds of an endpoint's settings.
const (
	maxConcurrency = 1000
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = 5 * time.Minute
	minWait        = 10 * time.Millisecond
	maxWait        = 30 * 24 * time.Hour
	maxRetries     = 50
	// minSecret is the least that the Standard Webhooks specification allows.
	minSecret = 24
)

func decodeEndpoints(v value) []Endpoint {
	var all []Endpoint
	lines := map[string]int{}
	for _, item := range v.List() {
		e := defaultEndpoint()
		e.Line = item.Line()
		e.decode(item)
		if first, ok := lines[e.Name]; ok && e.Name != "" {
			item.Errorf("give one of them another name", "there are two endpoints with the name %q, the other on line %d", e.Name, first)
		}
		lines[e.Name] = item.Line()
		all = append(all, e)
	}
	return all
}

func (e *Endpoint) decode(v value) {
	var secret, secrets bool
	var address value
	later := func(name string) strictyaml.Field {
		return strictyaml.Refused(name, `"`+name+`" comes with a later version`, "remove it")
	}
	v.Map(
		strictyaml.Required("name", func(v value) { e.Name = endpointName(v) }),
		strictyaml.Required("url", func(v value) { address = v }),
		strictyaml.Optional("tenants", func(v value) { e.Tenants = nonEmpty(v, "tenants") }),
		strictyaml.Optional("events", func(v value) { e.Events = decodeEvents(v) }),
		strictyaml.Optional("secret", func(v value) { secret, e.Secrets = true, append(e.Secrets, decodeSecret(v)) }),
		strictyaml.Optional("secrets", func(v value) {
			secrets = true
			for _, item := range v.List() {
				e.Secrets = append(e.Secrets, decodeSecret(item))
			}
		}),
		strictyaml.Optional("headers", func(v value) { e.Headers = decodeHeaders(v) }),
		strictyaml.Optional("format", func(v value) { e.Format = decodeFormat(v) }),
		strictyaml.Optional("order", func(v value) { e.Order = v.Choice("key", "endpoint", "none") }),
		strictyaml.Optional("state", func(v value) { e.State = v.Choice("active", "paused", "inactive") }),
		strictyaml.Optional("on_exhausted", func(v value) { e.OnExhausted = v.Choice("dead_letter", "block", "pause") }),
		strictyaml.Optional("concurrency", func(v value) { e.Concurrency = v.Int(1, maxConcurrency) }),
		strictyaml.Optional("timeout", func(v value) { e.Timeout = v.Duration(minTimeout, maxTimeout) }),
		strictyaml.Optional("retry", func(v value) { e.Retry = decodeRetry(v) }),
		strictyaml.Optional("rate", func(v value) { e.Rate = v.Rate() }),
		strictyaml.Optional("allow_private", func(v value) {
			for _, item := range v.ListOrOne() {
				e.AllowPrivate = append(e.AllowPrivate, item.Prefix())
			}
		}),
		strictyaml.Optional("allow_http", func(v value) { e.AllowHTTP = v.Bool() }),
		later("extra"), later("batch"), later("success"), later("tls"),
	)
	switch {
	case secret && secrets:
		v.Errorf("write all of them in secrets, the newest first", `"secret" and "secrets" are both given`)
	case v.IsMap() && len(e.Secrets) == 0:
		v.Errorf("write such as secret: ${CRM_SECRET}; make one with: echo whsec_$(openssl rand -base64 32)", `the key "secret" is missing`)
	}
	if address.Valid() {
		e.URL = e.decodeURL(address)
	}
}

func nonEmpty(v value, name string) []string {
	texts := v.Texts()
	if len(texts) == 0 {
		v.Errorf("remove the key to receive all", "%q is an empty list, with which the endpoint would receive nothing", name)
	}
	return texts
}

// endpointName: the name is part of Redis keys, logs and metrics.
func endpointName(v value) string {
	s := v.Text()
	if s == "" {
		return ""
	}
	ok := len(s) <= 63
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		ok = ok && (alnum || i > 0 && (r == '-' || r == '_'))
	}
	if !ok {
		v.Errorf("use lower-case letters, digits, - and _, such as crm-centro", "%q cannot be the name of an endpoint", s)
	}
	return s
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

func decodeFormat(v value) string {
	switch format := v.Text(); format {
	case "cloudevents", "cloudevents-binary", "form":
		v.Errorf("use standard or bare", "the format %q comes with a later version", format)
		return ""
	}
	return v.Choice("standard", "bare")
}

func decodeRetry(v value) []time.Duration {
	items := v.List()
	if len(items) > maxRetries {
		v.Errorf("", "%d retries are too many: at most %d", len(items), maxRetries)
	}
	waits := make([]time.Duration, 0, len(items))
	for _, item := range items {
		waits = append(waits, item.Duration(minWait, maxWait))
	}
	return waits
}

// decodeSecret reads a signing secret, as whsec_<base64> or as it is. The bytes
// that sign must be 24 at least:
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
func decodeSecret(v value) Secret {
	const hint = "make one with: echo whsec_$(openssl rand -base64 32)"
	text := v.Text()
	if text == "" {
		return ""
	}
	n := len(text)
	if encoded, ok := strings.CutPrefix(text, "whsec_"); ok {
		raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
		if err != nil {
			v.Errorf(hint, "what follows whsec_ in the secret is not base64")
			return ""
		}
		n = len(raw)
	}
	if n < minSecret {
		v.Errorf(hint, "the secret has %d bytes: it needs %d at least", n, minSecret)
	}
	return Secret(text)
}

// reservedHeaders are set by Gancho or by HTTP itself.
const reservedHeaders = " Host Content-Length Content-Type Transfer-Encoding Connection Expect Keep-Alive Proxy-Connection Te Trailer Upgrade User-Agent " +
	"Webhook-Id Webhook-Timestamp Webhook-Signature "

func decodeHeaders(v value) map[string]Secret {
	headers := map[string]Secret{}
	for _, e := range v.Entries() {
		text := e.Value.Text()
		name := textproto.CanonicalMIMEHeaderKey(e.Name)
		switch _, twice := headers[name]; {
		case !headerName(e.Name):
			e.Key.Errorf("write such as X-Api-Key", "%q cannot be the name of a header", e.Name)
		case strings.Contains(reservedHeaders, " "+name+" "):
			e.Key.Errorf("remove it", "the header %s is set by Gancho", name)
		case twice:
			e.Key.Errorf("remove one", "the header %s is given twice", name)
		case strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0:
			e.Value.Errorf("write it in one line", "the value of the header %s has control characters", name)
		}
		headers[name] = Secret(text)
	}
	return headers
}

// headerName: token of RFC 9110 section 5.6.2.
func headerName(s string) bool {
	for _, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", r) {
			return false
		}
	}
	return s != ""
}

// decodeURL checks where requests go, as far as it can be seen without asking
// DNS: the sender guards the resolved address at each connection. The URL is
// not repeated in messages, because its path or query may be what keeps others out.
func (e *Endpoint) decodeURL(v value) string {
	text := v.Text()
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		v.Errorf("write such as https://crm.example.com/hooks", "the url is not an http or https address")
		return ""
	case u.User != nil:
		v.Errorf("write it as a header: headers: {Authorization: ...}", "the url holds a user or password")
	case u.Fragment != "":
		v.Errorf("remove it", "the url has a fragment (#...), which is never sent")
	case u.Scheme == "http" && !e.AllowHTTP:
		v.Errorf("write https, or allow_http: true if everyone on the way may read and change the events", "the url is not https")
	}
	for _, a := range literalAddresses(u.Hostname()) {
		if private(a) && !allowed(a, e.AllowPrivate) {
			bits := netip.PrefixFrom(a, a.BitLen())
			v.Errorf("write allow_private: ["+bits.String()+"] if that is meant", "the url leads to the private address %s", a)
			break
		}
	}
	return text
}

// literalAddresses are the addresses that a host name stands for without DNS.
// For localhost either family suffices, so the more usual one is taken.
func literalAddresses(host string) []netip.Addr {
	if strings.EqualFold(host, "localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap().WithZone("")}
	}
	return nil
}

func private(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() ||
		netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10).Contains(a)
}

func allowed(a netip.Addr, ranges []netip.Prefix) bool {
	for _, p := range ranges {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
