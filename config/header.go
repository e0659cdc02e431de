package config

import (
	"net/textproto"
	"strings"
)

// reservedHeaders are set by Gancho or by HTTP itself: those that delivery
// refuses.
const reservedHeaders = " Connection Content-Length Content-Type Expect Host Keep-Alive Proxy-Authorization Proxy-Connection Te Trailer " +
	"Transfer-Encoding Upgrade User-Agent Webhook-Id Webhook-Timestamp Webhook-Signature Webhook-Replay "

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
		shown(e.Value, text)
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
	return s != "" && len(s) <= maxHeaderName
}

// maxHeaderName bounds the length of a header's name, in bytes.
const maxHeaderName = 200
