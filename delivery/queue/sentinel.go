package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// sentinel finds the Redis that the sentinels name, each time that it is
// connected to. Of different answers, as while the network is cut in two, that
// of the newest configuration counts. (go-redis' own client believes whoever
// answers first, and greets sentinels as it greets servers.)
type sentinel struct {
	name      string
	tls       *tls.Config
	sentinels []*redis.Client

	mu    sync.Mutex
	asked time.Time // when, the last time
	named string    // what they answered
	epoch uint64    // of their answers, the newest
	conns map[*sentinelConn]struct{}
}

// sentinelConn is a connection to a server that the sentinels have named.
type sentinelConn struct {
	net.Conn
	addr  string
	owner *sentinel
}

// Close forgets the connection.
func (c *sentinelConn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.conns, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// sentinelTimeout bounds what a sentinel that hangs may cost.
const sentinelTimeout = 2 * time.Second

func newSentinel(o *SentinelOptions) *sentinel {
	s := &sentinel{name: o.Master, tls: tlsConfig(o.TLS), conns: map[*sentinelConn]struct{}{}}
	for _, addr := range o.Addresses {
		s.sentinels = append(s.sentinels, redis.NewClient(&redis.Options{
			Addr: addr, Username: o.SentinelUser, Password: o.SentinelPassword, TLSConfig: s.tls,
			PoolSize: 1, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true, Protocol: 2, PipelinePoolSize: -1,
			DialTimeout: sentinelTimeout, ReadTimeout: sentinelTimeout, WriteTimeout: sentinelTimeout, ContextTimeoutEnabled: true,
		}))
	}
	return s
}

func (s *sentinel) close() error {
	var problems []error
	for _, c := range s.sentinels {
		problems = append(problems, c.Close())
	}
	return errors.Join(problems...)
}

// errNoMaster ends with what to do.
var errNoMaster = errors.New("the sentinels watch no master of that name; see queue.sentinel.master, and SENTINEL MASTERS for the names that they know")

// answer is what one sentinel says.
type answer struct {
	addr  string
	epoch uint64
	err   error
}

// master asks the sentinels for the server's address, and cuts the connections
// to another: it may not know yet that it is the master no more.
func (s *sentinel) master(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sentinelTimeout)
	defer cancel()
	answers := make([]answer, len(s.sentinels))
	var asking sync.WaitGroup
	for i, c := range s.sentinels {
		asking.Go(func() { answers[i] = s.ask(ctx, c) })
	}
	asking.Wait()
	best, err := s.choose(answers)
	if err != nil {
		return "", fmt.Errorf("ask the sentinels for %q: %w", s.name, err)
	}
	s.mu.Lock()
	var stale []*sentinelConn
	for c := range s.conns {
		if c.addr != best {
			stale = append(stale, c)
		}
	}
	s.mu.Unlock()
	for _, c := range stale {
		_ = c.Close() // whoever uses it gets an error, and connects to the new one
	}
	return best, nil
}

// sentinelAge is how long the sentinels' answer is relied on.
const sentinelAge = time.Second

// refresh asks again when that was not done a moment ago.
func (s *sentinel) refresh(ctx context.Context) error {
	s.mu.Lock()
	fresh := time.Since(s.asked) < sentinelAge
	s.mu.Unlock()
	if fresh {
		return nil
	}
	_, err := s.master(ctx)
	return unreachable(err)
}

// last is the address that they named the last time.
func (s *sentinel) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.named
}

// choose returns the address that counts, and remembers it. A few sentinels
// that know an older configuration than one that is known already have missed a
// failover, and would lead back to the master before it; if most of them do,
// the master was made known to them again, which begins with an old one.
func (s *sentinel) choose(answers []answer) (string, error) {
	best, err := best(answers)
	if err != nil {
		return "", err
	}
	answered := 0
	for _, a := range answers {
		if a.err == nil {
			answered++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if best.epoch < s.epoch && 2*answered <= len(answers) {
		return "", fmt.Errorf("%w: only sentinels answer that have missed the last failover; see that the others run", ErrUnreachable)
	}
	s.asked, s.named, s.epoch = time.Now(), best.addr, best.epoch
	return best.addr, nil
}

// best returns what is newest of the answers.
func best(answers []answer) (answer, error) {
	var best answer
	unknown := false
	last := ErrUnreachable
	for _, a := range answers {
		switch {
		case a.err == nil && (best.addr == "" || a.epoch > best.epoch):
			best = a
		case errors.Is(a.err, errNoMaster):
			unknown = true
		case a.err != nil:
			last = unreachable(a.err)
		}
	}
	switch {
	case best.addr != "":
		return best, nil
	case unknown:
		return answer{}, errNoMaster
	}
	return answer{}, last
}

func (s *sentinel) ask(ctx context.Context, c *redis.Client) answer {
	fields, err := c.Do(ctx, "SENTINEL", "MASTER", s.name).StringSlice()
	if err != nil {
		if isReply(err) && strings.Contains(err.Error(), "No such master") {
			err = errNoMaster
		}
		return answer{err: err}
	}
	field := func(name string) string {
		for i := 0; i+1 < len(fields); i += 2 {
			if fields[i] == name {
				return fields[i+1]
			}
		}
		return ""
	}
	a := answer{addr: net.JoinHostPort(field("ip"), field("port"))}
	a.epoch, _ = strconv.ParseUint(field("config-epoch"), 10, 64) // an older one counts less
	return a
}

// dial connects to the master of the moment.
func (s *sentinel) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	addr, err := s.master(ctx)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: connectTimeout}
	var cn net.Conn
	if s.tls == nil {
		cn, err = dialer.DialContext(ctx, network, addr)
	} else {
		cn, err = (&tls.Dialer{NetDialer: dialer, Config: s.tls}).DialContext(ctx, network, addr)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the master %s that the sentinels name: %w", addr, err)
	}
	c := &sentinelConn{Conn: cn, addr: addr, owner: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	return c, nil
}
