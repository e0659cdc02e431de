package config

import (
	"net/http"
	"slices"

	"golang.org/x/net/http/httpguts"

	"gancho/internal/strictyaml"
	"gancho/internal/tracing"
)

// Tracing is where spans go.
type Tracing struct {
	// OTLP is the collector's address, such as https://collector.example.com:4318; empty: nothing is traced.
	OTLP string
	// Headers are sent to the collector.
	Headers map[string]Secret
	// Sample is the share of all events that are traced, from 0 to 1.
	Sample float64
}

// ownHeaders are those of requests to the collector that are Gancho's.
var ownHeaders = []string{"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Host", "Transfer-Encoding", "User-Agent"}

func (t *Tracing) decode(v value) {
	t.Sample = 1
	v.Map(
		strictyaml.Required("otlp", func(v value) {
			text := v.Text()
			if text == "" {
				return
			}
			if _, err := tracing.ParseURL(text); err != nil {
				v.Errorf("write such as http://127.0.0.1:4318", "%s", err)
				return
			}
			t.OTLP = text
		}),
		strictyaml.Optional("headers", func(v value) {
			t.Headers = map[string]Secret{}
			for _, e := range v.Entries() {
				text := e.Value.Text()
				name := http.CanonicalHeaderKey(e.Name)
				_, twice := t.Headers[name]
				switch {
				case !httpguts.ValidHeaderFieldName(e.Name):
					e.Key.Errorf("write such as Authorization", "%q cannot be the name of a header", e.Name)
				case slices.Contains(ownHeaders, name):
					e.Key.Errorf("remove it", "the header %s is set by Gancho", name)
				case twice:
					e.Key.Errorf("remove one", "the header %s is given twice", name)
				case !httpguts.ValidHeaderFieldValue(text):
					e.Value.Errorf("write it in one line", "the value of the header %s has control characters", name)
				}
				t.Headers[name] = Secret(text)
			}
		}),
		strictyaml.Optional("sample", func(v value) { t.Sample = v.Share() }),
	)
}
