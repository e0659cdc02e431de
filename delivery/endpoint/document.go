package endpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"gancho/internal/strictyaml"
)

// asYAML writes JSON so that a YAML parser reads the same. JSON leaves some
// characters as they are that YAML takes as line breaks or refuses, and escapes
// others as two halves (\ud83d\ude00), which YAML does not know.
func asYAML(src []byte) []byte {
	out := make([]byte, 0, len(src))
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		switch {
		case r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffe || r == 0xffff:
			out = fmt.Appendf(out, `\u%04x`, r)
		case r != '\\':
			out = append(out, src[i:i+size]...)
		default:
			size = 2
			if pair := utf16.DecodeRune(escaped(src[i:]), escaped(src[min(i+6, len(src)):])); pair != utf8.RuneError {
				out, size = utf8.AppendRune(out, pair), 12
				break
			}
			out = append(out, src[i:i+size]...)
		}
		i += size
	}
	return out
}

// escaped is the character that \uXXXX at the beginning of b stands for.
func escaped(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return utf8.RuneError
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}

// Document returns the settings as canonical JSON: what differs from the
// defaults, in the order of the keys' names, with its secrets in clear and
// without name, state and signing secrets. Parse reads it back.
func (e *Endpoint) Document() json.RawMessage {
	return e.encode(Hidden.Reveal, func(address string) string { return address }, e.Proxy.Reveal())
}

// Public returns Document with *** for what is secret: the values of headers,
// extra fields and of the URL's query, the rest of its path (MaskURL), what is secret in
// auth, the TLS key, the proxy's password.
func (e *Endpoint) Public() json.RawMessage {
	return e.encode(Hidden.String, MaskURL, maskPassword(e.Proxy.Reveal()))
}

func (e *Endpoint) encode(show func(Hidden) string, where func(address string) string, proxy string) json.RawMessage {
	full := e.WithDefaults()
	base := Endpoint{Batch: e.Batch}
	base.setStyle(e.Style)
	base = base.WithDefaults()
	d := document{}
	d.add("url", where(e.URL), true)
	d.add("tenants", e.Tenants, len(e.Tenants) > 0)
	d.add("sources", e.Sources, len(e.Sources) > 0)
	d.add("events", e.Events, len(e.Events) > 0)
	d.add("headers", e.Headers.texts(show), len(e.Headers) > 0)
	d.add("content_type", e.ContentType, e.ContentType != "")
	d.add("signatures", signatureDocuments(e.Signatures), len(e.Signatures) > 0)
	d.add("standard", !e.NoStandard, e.NoStandard != base.NoStandard)
	d.add("auth", e.Auth.document(show, where), !e.Auth.IsZero())
	d.add("style", e.Style, e.Style != "")
	d.add("format", e.Format.String(), e.Format != base.Format)
	d.add("fields", e.Fields, len(e.Fields) > 0)
	d.add("extra", texts(e.Extra, show), len(e.Extra) > 0)
	d.add("numbers", "string", e.StringNumbers)
	d.add("batch", e.Batch.document(), e.Batch.Max > 1)
	d.add("success", e.Success.document(), !e.Success.equal(base.Success))
	d.add("order", full.Order.String(), full.Order != base.Order)
	d.add("compact", compactKey, e.Compact)
	d.add("on_exhausted", e.OnExhausted.String(), e.OnExhausted != base.OnExhausted)
	d.add("concurrency", full.Concurrency, full.Concurrency != base.Concurrency)
	d.add("timeout", durationText(full.Timeout), full.Timeout != base.Timeout)
	d.add("retry", durationTexts(full.Retry), !slices.Equal(full.Retry, base.Retry))
	d.add("retry_refused", durationTexts(full.RetryRefused), !slices.Equal(full.RetryRefused, base.RetryRefused))
	d.add("max_age", durationText(full.MaxAge), full.MaxAge != base.MaxAge)
	d.add("pause_after", durationText(full.PauseAfter), full.PauseAfter != base.PauseAfter)
	d.add("rate", strconv.FormatFloat(e.Rate, 'g', -1, 64)+"/s", e.Rate != base.Rate)
	d.add("closing", e.Closing.String(), e.Closing != 0)
	d.add("allow_private", e.AllowPrivate, len(e.AllowPrivate) > 0)
	d.add("allow_http", e.AllowHTTP, e.AllowHTTP)
	d.add("http", "1.1", e.HTTP1)
	d.add("tls", e.TLS.document(show), e.TLS != TLS{})
	d.add("proxy", proxy, proxy != "")
	return d.json()
}

// document is a JSON object in the making.
type document map[string]any

func (d document) add(key string, v any, differs bool) {
	if differs {
		d[key] = v
	}
}

// json encodes the document so that Parse reads the same.
func (d document) json() json.RawMessage {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(d); err != nil {
		return nil // not reachable: it holds texts, numbers and lists of them
	}
	return asYAML(bytes.TrimSpace(out.Bytes()))
}

func (b Batching) document() document {
	d := document{"max": b.Max}
	d.add("wait", durationText(b.Wait), b.Wait > 0)
	d.add("per", "transaction", b.PerTransaction)
	return d
}

func texts(m map[string]Hidden, show func(Hidden) string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = show(v)
	}
	return out
}

func durationTexts(ds []time.Duration) []string {
	out := make([]string, len(ds))
	for i, d := range ds {
		out[i] = durationText(d)
	}
	return out
}

func durationText(d time.Duration) string {
	if d < 0 {
		return never
	}
	return strictyaml.DurationText(d)
}
