package endpoint

import (
	"maps"
	"net/textproto"
	"slices"
	"strings"

	"gancho/internal/strictyaml"
)

// maxSignatures bounds the signatures beside the standard one.
const maxSignatures = 5

// Algorithm is what a signature is made with.
type Algorithm uint8

// The algorithms.
const (
	HMACSHA256 Algorithm = iota
	HMACSHA1
	HMACSHA512
)

var algorithmNames = []string{"hmac-sha256", "hmac-sha1", "hmac-sha512"}

// String returns the algorithm as the configuration spells it.
func (a Algorithm) String() string { return algorithmNames[a] }

// Encoding is how a signature is written.
type Encoding uint8

// The encodings.
const (
	Hex    Encoding = iota // lower-case digits
	Base64                 // standard, padded
)

var encodingNames = []string{"hex", "base64"}

// String returns the encoding as the configuration spells it.
func (e Encoding) String() string { return encodingNames[e] }

// KeyForm is how the text of a secret stands for the key.
type KeyForm uint8

// The forms of keys.
const (
	KeyText   KeyForm = iota // the bytes of the text, whsec_ included
	KeyBase64                // what the text, without whsec_, is base64 of
)

var keyFormNames = []string{"text", "base64"}

// String returns the form as the configuration spells it.
func (k KeyForm) String() string { return keyFormNames[k] }

// Signature is a signature of each request beside that of Standard Webhooks, as the
// receivers of some vendor's webhooks verify it. It is made with the endpoint's HMAC
// secrets.
type Signature struct {
	// Preset names a vendor, whose the other fields are then: see Resolve.
	Preset string
	// Header is its name.
	Header string
	// Of is what is signed: {id}, {timestamp} and {body} in a text; empty: {body}.
	Of        string
	Algorithm Algorithm
	Encoding  Encoding
	// Prefix stands before each signature.
	Prefix string
	// Separator stands between the signatures of several secrets; empty: the header has one
	// signature. Then the newest secret signs, and another when the receiver refuses that.
	Separator string
	// Value is the header's: {signature}, with its prefix, {id} and {timestamp} in a text;
	// empty: {signature}.
	Value string
	Key   KeyForm
}

// vendor is a preset, and the headers that its receivers want beside the signature.
type vendor struct {
	signature Signature
	headers   map[string]string
}

// vendors are the presets, as their vendors document them.
var vendors = map[string]vendor{
	// https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
	// https://docs.github.com/en/webhooks/webhook-events-and-payloads#delivery-headers
	"github": {
		Signature{Header: "X-Hub-Signature-256", Prefix: "sha256="},
		map[string]string{"X-Github-Event": "{type}", "X-Github-Delivery": "{id}"},
	},
	// https://shopify.dev/docs/apps/build/webhooks/verify-deliveries. Its library wants the
	// shop's domain and the version of the API, too, which the endpoint's headers have.
	"shopify": {
		Signature{Header: "X-Shopify-Hmac-Sha256", Encoding: Base64},
		map[string]string{"X-Shopify-Topic": "{type}", "X-Shopify-Webhook-Id": "{id}"},
	},
	// https://developer.woocommerce.com/docs/apis/rest-api/v3/webhooks/
	"woocommerce": {
		Signature{Header: "X-Wc-Webhook-Signature", Encoding: Base64},
		map[string]string{"X-Wc-Webhook-Topic": "{type}", "X-Wc-Webhook-Delivery-Id": "{id}"},
	},
	// https://docs.stripe.com/webhooks/signature
	"stripe": {
		signature: Signature{Header: "Stripe-Signature", Of: "{timestamp}.{body}", Prefix: "v1=", Separator: ",", Value: "t={timestamp},{signature}"},
	},
	// https://docs.svix.com/receiving/verifying-payloads/how-manual
	"svix": {
		Signature{Header: "Svix-Signature", Of: "{id}.{timestamp}.{body}", Encoding: Base64, Prefix: "v1,", Separator: " ", Key: KeyBase64},
		map[string]string{"Svix-Id": "{id}", "Svix-Timestamp": "{timestamp}"},
	},
}

// SignaturePresets returns the names of the presets.
func SignaturePresets() []string { return slices.Sorted(maps.Keys(vendors)) }

// Resolve returns the signature with its preset's fields, and its defaults, in place.
func (s Signature) Resolve() Signature {
	if v, ok := vendors[s.Preset]; ok {
		preset := s.Preset
		s = v.signature
		s.Preset = preset
	}
	if s.Of == "" || s.Of == "body" {
		s.Of = "{body}"
	}
	if s.Value == "" {
		s.Value = "{signature}"
	}
	return s
}

// Headers returns the headers that the preset's receivers want beside the signature, as
// templates. The endpoint's own take their place.
func (s Signature) Headers() map[string]string { return vendors[s.Preset].headers }

// decodeSignatures reads signatures: a list of presets' names, of {preset}, or of
// signatures that are spelt out.
func decodeSignatures(v value) []Signature {
	items := v.List()
	if len(items) > maxSignatures {
		v.Errorf("leave some out", "%d signatures are too many: at most %d", len(items), maxSignatures)
		items = items[:maxSignatures]
	}
	var out []Signature
	for _, item := range items {
		out = append(out, decodeSignature(item))
	}
	return out
}

func decodeSignature(v value) Signature {
	var s Signature
	if v.IsScalar() {
		s.Preset = v.Choice(SignaturePresets()...)
		return s
	}
	v.Map(
		strictyaml.Optional("preset", func(v value) { s.Preset = v.Choice(SignaturePresets()...) }),
		strictyaml.Optional("header", func(v value) { s.Header = textproto.CanonicalMIMEHeaderKey(v.Text()) }),
		strictyaml.Optional("of", func(v value) { s.Of = v.Text() }),
		strictyaml.Optional("algorithm", func(v value) { s.Algorithm = choice[Algorithm](v, algorithmNames) }),
		strictyaml.Optional("encoding", func(v value) { s.Encoding = choice[Encoding](v, encodingNames) }),
		strictyaml.Optional("prefix", func(v value) { s.Prefix = v.Text() }),
		strictyaml.Optional("separator", func(v value) { s.Separator = v.Text() }),
		strictyaml.Optional("value", func(v value) { s.Value = v.Text() }),
		strictyaml.Optional("key", func(v value) { s.Key = choice[KeyForm](v, keyFormNames) }),
	)
	if s.Preset != "" && len(v.Entries()) > 1 {
		v.Errorf("leave out preset, or everything else", "a preset says everything about its signature")
		return Signature{Preset: s.Preset}
	}
	return s
}

// check returns what is wrong with the signature by itself.
func (s Signature) check() *SettingError {
	if s.Preset != "" {
		if _, ok := vendors[s.Preset]; !ok {
			return mistakef("write one of "+strings.Join(SignaturePresets(), ", "), "%q is no preset of a signature", s.Preset)
		}
		return nil
	}
	s = s.Resolve()
	const hint = "write such as {header: X-Signature, of: body, encoding: hex}"
	of, value := ParseTemplate(s.Of), ParseTemplate(s.Value)
	switch {
	case s.Header == "":
		return mistakef(hint, "a signature needs the name of its header, or a preset")
	case !isToken(s.Header) || len(s.Header) > maxHeaderName:
		return mistakef(hint, "%q cannot be the name of a signature's header", s.Header)
	case count(of, "body") != 1:
		return mistakef(`write such as of: "{timestamp}.{body}"`, "what is signed has to have {body} once")
	case count(value, "signature") != 1:
		return mistakef(`write such as value: "t={timestamp},v1={signature}"`, "the value of a signature's header has to have {signature} once")
	}
	if m := of.check("what is signed", []string{"id", "timestamp", "body"}); m != nil {
		return m
	}
	if m := value.check("the value of a signature's header", []string{"signature", "id", "timestamp"}); m != nil {
		return m
	}
	for _, text := range []string{s.Prefix, s.Separator, s.Value} {
		if m := checkHeaderValue(s.Header, text); m != nil {
			return m
		}
	}
	return nil
}

func count(t Template, name string) (n int) {
	for _, found := range t.names() {
		if found == name {
			n++
		}
	}
	return n
}

// checkSignatures returns what is wrong with the signatures beside the endpoint's other
// settings, but for its secrets, which a document need not have.
func (e *Endpoint) checkSignatures() []*SettingError {
	var all []*SettingError
	add := func(m *SettingError) {
		if m != nil {
			all = append(all, m)
		}
	}
	names := map[string]bool{}
	for i, s := range e.Signatures {
		if m := s.check(); m != nil {
			add(m)
			continue
		}
		s = s.Resolve()
		switch name := textproto.CanonicalMIMEHeaderKey(s.Header); {
		case e.isReserved(name) || e.Format == FormatCloudEventsBinary && strings.HasPrefix(name, "Ce-"):
			add(mistakef("give it another name", "the header %s of signature %d is set by Gancho", name, i+1))
		case e.hasHeader(name):
			add(mistakef("remove one", "the header %s is that of a signature, and in headers", name))
		case name == "Authorization" && !e.Auth.IsZero():
			add(mistakef("remove one", "the header Authorization is that of a signature, and made by auth"))
		case names[name]:
			add(mistakef("remove one", "two signatures have the header %s", name))
		default:
			names[name] = true
		}
		for _, name := range slices.Sorted(maps.Keys(s.Headers())) {
			if slices.ContainsFunc(e.Signatures, func(other Signature) bool { return textproto.CanonicalMIMEHeaderKey(other.Resolve().Header) == name }) {
				add(mistakef("give it another name", "the header %s is that of a signature, and of the preset %s", name, s.Preset))
			} else if !e.hasHeader(name) {
				add(ParseTemplate(s.Headers()[name]).checkEvent("the header "+name+" of the preset "+s.Preset, e.Batch.Max > 1))
			}
		}
	}
	return all
}

// hasHeader reports whether the endpoint adds a header of its own.
func (e *Endpoint) hasHeader(name string) bool {
	return slices.ContainsFunc(e.Headers, func(h Header) bool { return textproto.CanonicalMIMEHeaderKey(h.Name) == name })
}

// CheckSecrets returns what is wrong with the secrets that the endpoint would sign with, or
// nil: its signatures are made with HMAC secrets, some of them with base64.
func (e *Endpoint) CheckSecrets(secrets []Secret) *SettingError {
	for i, s := range e.Signatures {
		form, some := s.Resolve().Key, false
		for _, secret := range secrets {
			key, ok := secret.Key(form)
			if !ok {
				return mistakef("give it as whsec_ and base64, or write key: text", "signature %d has a key of base64, and a secret is none", i+1)
			}
			some = some || key != nil
		}
		if !some && len(secrets) > 0 {
			return mistakef("add one, or remove the signature", "signature %d needs an HMAC secret, whsec_ or a text, and there are only ed25519 keys", i+1)
		}
	}
	return nil
}

// SignsAnything reports whether the endpoint's secrets are used.
func (e *Endpoint) SignsAnything() bool { return !e.NoStandard || len(e.Signatures) > 0 }

func (s Signature) document() any {
	d := document{}
	d.add("preset", s.Preset, s.Preset != "")
	if s.Preset != "" {
		return d
	}
	d.add("header", s.Header, s.Header != "")
	d.add("of", s.Of, s.Of != "")
	d.add("algorithm", s.Algorithm.String(), s.Algorithm != HMACSHA256)
	d.add("encoding", s.Encoding.String(), s.Encoding != Hex)
	d.add("prefix", s.Prefix, s.Prefix != "")
	d.add("separator", s.Separator, s.Separator != "")
	d.add("value", s.Value, s.Value != "")
	d.add("key", s.Key.String(), s.Key != KeyText)
	return d
}

func signatureDocuments(signatures []Signature) []any {
	out := make([]any, len(signatures))
	for i, s := range signatures {
		out[i] = s.document()
	}
	return out
}
