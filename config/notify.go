package config

import (
	netmail "net/mail"
	"slices"
	"strings"

	"gancho/internal/strictyaml"
)

// Notify is who is told of trouble by e-mail.
type Notify struct {
	// SMTP is the server: smtp://user:password@host:587, or smtps://. Empty: no mail is sent.
	SMTP Secret
	From string
	// To are addresses that are told of everything, Tenants, by tenant, those that are told of
	// what is that tenant's alone.
	To      []string
	Tenants map[string][]string
}

func (n *Notify) decode(v value) {
	var server value
	v.Map(
		strictyaml.Required("smtp", func(v value) { server, n.SMTP = v, Secret(v.Text()) }),
		strictyaml.Required("from", func(v value) { n.From = address(v) }),
		strictyaml.Optional("to", func(v value) { n.To = addresses(v) }),
		strictyaml.Optional("tenants", func(v value) {
			n.Tenants = map[string][]string{}
			for _, e := range v.Entries() {
				n.Tenants[e.Name] = addresses(e.Value)
			}
		}),
	)
	if text := n.SMTP.Reveal(); text != "" && !strings.HasPrefix(text, "smtp://") && !strings.HasPrefix(text, "smtps://") {
		server.Errorf("write smtp://user:password@mail.example.com:587, or smtps://", "this is not the URL of an SMTP server")
	}
	if v.IsMap() && len(n.To) == 0 && len(n.Tenants) == 0 {
		v.Errorf("write such as to: [ops@example.com]", "notify names nobody who is told")
	}
}

func addresses(v value) []string {
	var out []string
	for _, item := range v.ListOrOne() {
		if a := address(item); a != "" && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// address is a bare mail address.
func address(v value) string {
	text := v.Text()
	if text == "" {
		return ""
	}
	a, err := netmail.ParseAddress(text)
	if err != nil || a.Address != text {
		v.Errorf("write such as ops@example.com", "%q is not a mail address", text)
		return ""
	}
	return text
}
