package config

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
	for _, part := range strings.Split(u.RawQuery, "&") {
		_, text, _ := strings.Cut(part, "=")
		shown(v, text)
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
