package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// sentinel finds the Redis that the sentinels name, for each connection. Of
// different answers, as while the network is cut in two, the newest
// configuration's counts. (go-redis' own client believes whoever answers first,
// and greets sentinels as it greets servers.)
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
	stale := slices.DeleteFunc(slices.Collect(maps.Keys(s.conns)), func(c *sentinelConn) bool { return c.addr == best })
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
	var best answer
	answered, last := 0, ErrUnreachable
	for _, a := range answers {
		switch {
		case a.err == nil:
			if answered++; answered == 1 || a.epoch > best.epoch {
				best = a
			}
		case !errors.Is(last, errNoMaster): // which says more than another's silence
			last = unreachable(a.err)
		}
	}
	if answered == 0 {
		return "", last
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if best.epoch < s.epoch && 2*answered <= len(answers) {
		return "", fmt.Errorf("%w: only sentinels answer that have missed the last failover; see that the others run", ErrUnreachable)
	}
	s.asked, s.named, s.epoch = time.Now(), best.addr, best.epoch
	return best.addr, nil
}

func (s *sentinel) ask(ctx context.Context, c *redis.Client) answer {
	cmd := redis.NewMapStringStringCmd(ctx, "SENTINEL", "MASTER", s.name)
	if err := c.Process(ctx, cmd); err != nil {
		if isReply(err) && strings.Contains(err.Error(), "No such master") {
			err = errNoMaster
		}
		return answer{err: err}
	}
	fields := cmd.Val()
	a := answer{addr: net.JoinHostPort(fields["ip"], fields["port"])}
	a.epoch, _ = strconv.ParseUint(fields["config-epoch"], 10, 64) // an older one counts less
	return a
}

func (s *sentinel) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	addr, err := s.master(ctx)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: connectTimeout}
	dial := dialer.DialContext
	if s.tls != nil {
		dial = (&tls.Dialer{NetDialer: dialer, Config: s.tls}).DialContext
	}
	cn, err := dial(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("connect to the master %s that the sentinels name: %w", addr, err)
	}
	c := &sentinelConn{Conn: cn, addr: addr, owner: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	return c, nil
}
