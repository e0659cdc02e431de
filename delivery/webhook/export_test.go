package webhook

import (
	"time"

	"gancho/delivery/endpoint"
)

// Pools is how many pools of connections the sender has.
func (s *Sender) Pools() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pools)
}

// Age makes the connections older.
func (s *Sender) Age(by time.Duration) {
	s.eachPool(func(p *pool) { p.current.since = p.current.since.Add(-by) })
}

// eachPool calls f for each pool that has connections, with its mutex held.
func (s *Sender) eachPool(f func(*pool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools {
		p.mu.Lock()
		if p.current != nil {
			f(p)
		}
		p.mu.Unlock()
	}
}

// Blind has what the idle connections' receivers have said or done not be seen until a request was
// written, as if it arrived in that moment.
func (s *Sender) Blind() {
	s.eachPool(func(p *pool) {
		for _, c := range p.current.idle {
			w := c.wire
			w.from = func(uintptr) bool {
				w.n, w.err = 0, errNothingYet
				return true
			}
		}
	})
}

// Idle is how many connections are idle.
func (s *Sender) Idle() (n int) {
	s.eachPool(func(p *pool) { n += len(p.current.idle) })
	return n
}

// Expire has the connections' time be over.
func (s *Sender) Expire() { s.eachPool(func(p *pool) { p.current.expiry.Reset(0) }) }

// PreparedEndpoints is how many endpoints the sender remembers.
func (s *Sender) PreparedEndpoints() (n int) {
	s.prepared.Range(func(any, any) bool { n++; return true })
	return n
}

// Reason is what is told of an error of the transport.
func Reason(err error) string { return reason(classOf(err), err) }

// AppendStringNumbers is the scanner behind Endpoint.StringNumbers.
var AppendStringNumbers = appendStringNumbers

// FormValue is a JSON value as fields of a form.
func FormValue(name string, value []byte) string { return string(appendFormValue(nil, name, value)) }

// BodyWriter returns what appends bodies for the endpoint.
func BodyWriter(ep *endpoint.Endpoint) func(dst []byte, m *Message) []byte {
	f := newBodyShape(ep)
	return f.appendBody
}

// VendorSignature is the value of the header of the endpoint's first signature.
func VendorSignature(ep *endpoint.Endpoint, id, stamp, body string) string {
	signers, _ := newVendorSigners(ep)
	return signers[0].headerValue(&signedParts{id, stamp, []byte(body)}, 0)
}

// AgeTokens makes the access tokens older.
func (s *Sender) AgeTokens(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.logins {
		l.mu.Lock()
		if l.current != nil {
			older := *l.current
			older.expires, older.fetched = older.expires.Add(-by), older.fetched.Add(-by)
			l.current = &older
		}
		l.mu.Unlock()
	}
}

// Logins is how many logins the sender remembers.
func (s *Sender) Logins() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.logins)
}

// ForgetPrepared has the next endpoint that is added find all others unused.
func (s *Sender) ForgetPrepared() {
	s.prepared.Range(func(_, v any) bool {
		t, _ := v.(*preparedEndpoint)
		t.used.Store(0)
		return true
	})
}
