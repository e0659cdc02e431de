package endpoint

import (
	"net/netip"
	"net/url"
	"strings"
)

// decodeURL checks where requests go, as far as it can be seen without asking
// DNS: the sender guards the resolved address at each connection. The URL is
// not repeated in messages, because its path or query may be what keeps others out.
func (e *Endpoint) decodeURL(v value) string {
	text := v.Text()
	if text == "" {
		return ""
	}
	u, m := parseURL(text, e.AllowHTTP)
	m.at(v)
	if u == nil {
		return ""
	}
	switch {
	case m != nil:
	case u.User != nil:
		v.Errorf("write it as a header: headers: {Authorization: ...}", "the url holds a user or password")
	case u.Fragment != "":
		v.Errorf("remove it", "the url has a fragment (#...), which is never sent")
	}
	for _, segment := range strings.Split(u.Path, "/") {
		refuseMask(v, segment)
	}
	for _, part := range strings.Split(u.RawQuery, "&") {
		_, text, _ := strings.Cut(part, "=")
		refuseMask(v, text)
	}
	if addr, ok := literalAddress(u.Hostname()); ok {
		if refused := CheckAddress(addr, SimplifyNetworks(e.AllowPrivate)); refused != nil {
			only := netip.PrefixFrom(refused.Addr, refused.Addr.BitLen())
			v.Errorf("write allow_private: ["+only.String()+"] if that is meant", "the url leads to the private address %s (%s: %s)",
				refused.Addr, refused.Network, refused.Use)
		}
	}
	return text
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
