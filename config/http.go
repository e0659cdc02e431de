package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"gancho/internal/machine"
	"gancho/internal/servercert"
	"gancho/internal/strictyaml"
)

// HTTP is the bridge's own server, for health, metrics and the API.
type HTTP struct {
	Listen string // host:port
	// Metrics is where the metrics are instead, host:port; empty: on Listen.
	Metrics string
	// MetricsToken is what the metrics ask for; empty: nothing.
	MetricsToken Secret
	// TLS is that of Listen and Metrics.
	TLS servercert.Files
}

// decode returns what has the certificate, which is not read.
func (h *HTTP) decode(v value, file string) (tls value) {
	v.Map(
		strictyaml.Optional("listen", func(v value) { h.Listen = listenAddress(v, "127.0.0.1:8620") }),
		strictyaml.Optional("metrics", func(v value) {
			h.Metrics = listenAddress(v, "127.0.0.1:9620")
			if h.Metrics != "" && h.Metrics == h.Listen && !strings.HasSuffix(h.Metrics, ":0") {
				v.Errorf("give it another port, or remove it", "http.metrics is the address of http.listen")
			}
		}),
		strictyaml.Optional("metrics_token", func(v value) {
			text := v.Text()
			if text != "" && len(text) < minKey {
				v.Errorf("make one with: openssl rand -hex 32", "the token has less than %d bytes", minKey)
			}
			h.MetricsToken = Secret(text)
		}),
		strictyaml.Optional("tls", func(v value) { tls, h.TLS = v, decodeTLS(v, file) }),
	)
	return tls
}

// listenAddress is host:port, such as the example.
func listenAddress(v value, example string) string {
	text := v.Text()
	if text == "" {
		return ""
	}
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		v.Errorf("write host:port, such as "+example, "%q has no port", text)
		return ""
	}
	host, port := text[:i], text[i+1:]
	_, err := strconv.ParseUint(port, 10, 16)
	bracketed := strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")
	if err != nil || strings.Contains(host, ":") && !bracketed {
		v.Errorf("write host:port, such as "+example+" or [::1]"+example[strings.LastIndexByte(example, ':'):], "%q is not an address to listen on", text)
	}
	return text
}

// Warnings are what others on the network could read: sentences that end with what to do.
func (c *Config) Warnings() []string {
	var out []string
	for _, l := range []struct {
		section, listen string
		tls             servercert.Files
	}{{"http", c.HTTP.Listen, c.HTTP.TLS}, {"console", c.Console.Listen, c.Console.TLS}} {
		if c.State.On() && l.listen != "" && !l.tls.On() && !loopback(l.listen) {
			out = append(out, fmt.Sprintf("%s.listen is %s, beyond this machine, and the API speaks plain HTTP: whoever is on the network path reads its tokens and answers; "+
				"add %s.tls, or listen on 127.0.0.1 behind a reverse proxy with TLS", l.section, l.listen, l.section))
		}
	}
	at, key := c.HTTP.Listen, "http.listen"
	if c.HTTP.Metrics != "" {
		at, key = c.HTTP.Metrics, "http.metrics"
	}
	if c.HTTP.MetricsToken == "" && !loopback(at) {
		out = append(out, fmt.Sprintf("%s is %s, beyond this machine: everybody who reaches it reads the metrics, with the names of endpoints, tables and events; "+
			"set http.metrics_token, or http.metrics to an address of this machine", key, at))
	}
	return out
}

// loopback reports whether only this machine reaches the address.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && machine.Loopback(host)
}
