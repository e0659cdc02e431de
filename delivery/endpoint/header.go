package endpoint

import (
	"net/textproto"
	"slices"
	"strings"
	"unicode"
)

// The headers of Standard Webhooks, as net/http keeps them, and Gancho's own.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
	HeaderReplay    = "Webhook-Replay"   // of a request: sent again on demand
	HeaderDelivery  = "Webhook-Delivery" // of an answer: what the receiver wishes
)

// reservedHeaders are those that Gancho or the HTTP connection itself sets.
var reservedHeaders = []string{
	"Connection", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "User-Agent", HeaderID, HeaderTimestamp, HeaderSignature, HeaderReplay,
}

// decodeHeaders reads the headers of each request. The format is known.
func decodeHeaders(v value, f Format) map[string]Hidden {
	headers := map[string]Hidden{}
	for _, entry := range v.Entries() {
		text := entry.Value.Text()
		name := textproto.CanonicalMIMEHeaderKey(entry.Name)
		if _, twice := headers[name]; !checkHeaderName(f, entry.Name).at(entry.Key) && twice {
			entry.Key.Errorf("remove one", "the header %s is given twice", name)
		}
		checkHeaderValue(name, text).at(entry.Value)
		refuseMask(entry.Value, text)
		headers[name] = Hidden(text)
	}
	return headers
}

func checkHeaderName(f Format, given string) *SettingError {
	name := textproto.CanonicalMIMEHeaderKey(given)
	switch {
	case !isToken(given) || len(given) > maxHeaderName:
		return mistakef("write such as X-Api-Key", "%q cannot be the name of a header", given)
	case slices.Contains(reservedHeaders, name):
		return mistakef("remove it", "the header %s is set by Gancho", name)
	case f == FormatCloudEventsBinary && strings.HasPrefix(name, "Ce-"):
		return mistakef("write it in extra, without ce-", "the header %s is an attribute of the event in the format %s", name, f)
	}
	return nil
}

func checkHeaderValue(name, text string) *SettingError {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return mistakef("write it in one line", "the value of the header %s has control characters", name)
	}
	return nil
}

// isToken: https://www.rfc-editor.org/rfc/rfc9110#name-tokens
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		alnum := r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r))
		return !alnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
