package endpoint

import (
	"net/netip"
	"net/url"
	"strings"
)

// URLFault is a kind of mistake in a URL, for pages that say it in words of their own.
type URLFault string

// The kinds.
const (
	URLMalformed URLFault = "malformed" // not an http or https address
	URLPlain     URLFault = "plain"     // http
	URLPassword  URLFault = "password"  // it holds a user or password
	URLFragment  URLFault = "fragment"
	URLPrivate   URLFault = "private" // it leads to an address that endpoints may not have
)

// decodeURL checks where requests go. The URL is not repeated in messages, because its path or query may be what
// keeps others out.
func (e *Endpoint) decodeURL(v value) string {
	text := v.Text()
	if text == "" {
		return ""
	}
	mistakes := e.urlMistakes(text)
	for _, m := range mistakes {
		m.at(v)
	}
	u, err := url.Parse(text)
	if err != nil || len(mistakes) > 0 && mistakes[0].Fault == URLMalformed {
		return ""
	}
	refuseMaskedURL(v, u)
	return text
}

// refuseMaskedURL refuses what MaskURL shows in the place of what it hides.
func refuseMaskedURL(v value, u *url.URL) {
	for _, segment := range strings.Split(u.Path, "/") {
		refuseMask(v, segment)
	}
	for _, part := range strings.Split(u.RawQuery, "&") {
		_, text, _ := strings.Cut(part, "=")
		refuseMask(v, text)
	}
}

// CheckURL returns the first mistake in a URL that the endpoint could have, with its Fault, or nil: as far as it can be
// seen without asking DNS. The sender guards the resolved address at each connection.
func (e *Endpoint) CheckURL(text string) *SettingError {
	if mistakes := e.urlMistakes(text); len(mistakes) > 0 {
		return mistakes[0]
	}
	return nil
}

func (e *Endpoint) urlMistakes(text string) []*SettingError {
	u, m := parseURL(text, e.AllowHTTP)
	var all []*SettingError
	add := func(fault URLFault, m *SettingError) {
		m.Fault = fault
		all = append(all, m)
	}
	switch {
	case u == nil:
		add(URLMalformed, m)
		return all
	case m != nil:
		add(URLPlain, m)
	case u.User != nil:
		add(URLPassword, mistakef("write it as a header: headers: {Authorization: ...}", "the url holds a user or password"))
	case u.Fragment != "":
		add(URLFragment, mistakef("remove it", "the url has a fragment (#...), which is never sent"))
	}
	if addr, ok := literalAddress(u.Hostname()); ok {
		if refused := CheckAddress(addr, SimplifyNetworks(e.AllowPrivate)); refused != nil {
			only := netip.PrefixFrom(refused.Addr, refused.Addr.BitLen())
			add(URLPrivate, mistakef("write allow_private: ["+only.String()+"] if that is meant", "the url leads to the private address %s (%s: %s)",
				refused.Addr, refused.Network, refused.Use))
		}
	}
	return all
}

// literalAddress is the address that a host name stands for without DNS. For
// localhost either family suffices, so it is the more usual one.
func literalAddress(host string) (netip.Addr, bool) {
	if strings.EqualFold(host, "localhost") {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	a, err := netip.ParseAddr(host)
	return a, err == nil
}

// parseURL returns nil with the mistake for what is no address at all.
func parseURL(text string, allowHTTP bool) (*url.URL, *SettingError) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, mistakef("write such as https://crm.example.com/hooks", "the url is not an http or https address")
	case u.Scheme == "http" && !allowHTTP:
		return u, mistakef("write https, or allow_http: true if everyone on the way may read and change the events", "the url is not https")
	}
	return u, nil
}

// decodeProxy reads the URL of a proxy. It is not repeated in messages: it may
// hold a password.
func decodeProxy(v value) Hidden {
	text := v.Text()
	if text == "" {
		return ""
	}
	u, m := parseProxy(text)
	m.at(v)
	if u == nil {
		return ""
	}
	if password, ok := u.User.Password(); ok {
		refuseMask(v, password)
	}
	return Hidden(text)
}

// parseProxy returns nil with the mistake for what is no proxy at all, and
// without for an empty text.
func parseProxy(text string) (*url.URL, *SettingError) {
	const hint = "write such as http://proxy.example.com:3128, with user:password@ before the host where needed"
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" || u.Hostname() == "":
		return nil, mistakef(hint, "this is not the URL of an HTTP proxy")
	case u.Port() == "":
		return u, mistakef(hint, "the URL of the proxy has no port")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return u, mistakef(hint, "the URL of a proxy ends with its port")
	}
	return u, nil
}

// ProxyURL parses the proxy's URL; nil: there is no proxy. Its error is a
// SettingError.
func (e *Endpoint) ProxyURL() (*url.URL, error) {
	u, m := parseProxy(e.Proxy.Reveal())
	if m != nil {
		return nil, m
	}
	return u, nil
}
