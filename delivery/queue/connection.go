package queue

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// connections for one purpose: to the one server, as "", or to each node of a cluster.
type connections struct {
	options redis.Options // without an address, for a cluster
	// greet runs on each new connection, before its first command.
	greet func(ctx context.Context, addr string, cn *redis.Conn) error

	mu      sync.Mutex
	clients map[string]*redis.Client
}

func newConnections(options redis.Options, greet func(context.Context, string, *redis.Conn) error) *connections {
	return &connections{options: options, greet: greet, clients: map[string]*redis.Client{}}
}

func (c *connections) to(addr string) *redis.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	client := c.clients[addr]
	if client == nil {
		o := c.options
		if addr != "" {
			o.Addr = addr
		}
		if c.greet != nil {
			o.OnConnect = func(ctx context.Context, cn *redis.Conn) error { return c.greet(ctx, addr, cn) }
		}
		client = redis.NewClient(&o)
		c.clients[addr] = client
	}
	return client
}

// keep closes the connections to other addresses. Nobody may be using them.
func (c *connections) keep(addresses []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, client := range c.clients {
		if !slices.Contains(addresses, addr) {
			_ = client.Close() // to a node that is none any more
			delete(c.clients, addr)
		}
	}
}

func (c *connections) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var problems []error
	for _, addr := range slices.Sorted(maps.Keys(c.clients)) {
		problems = append(problems, c.clients[addr].Close())
	}
	return errors.Join(problems...)
}

// connectTimeout bounds the handshake and each command, in which nothing big moves.
const (
	connectTimeout = 5 * time.Second
	appendTimeout  = 30 * time.Second
)

// connect prepares the connections; nothing is sent yet.
func (q *Queue) connect(o *Options) error {
	base, err := q.locate(o)
	if err != nil {
		return err
	}
	base.MaxRetries = -1 // appends and claims are repeated by those who know how
	base.DialerRetries = 1
	base.DialTimeout = connectTimeout
	base.ContextTimeoutEnabled = true
	base.DisableIdentity = true
	base.Protocol = 2 // what has to be parsed is smaller, and pushes are not used
	base.PipelinePoolSize = -1
	if base.Dialer == nil {
		base.Dialer = redis.NewDialer(&base)
	}
	base.Dialer = dialFresh(base.Dialer)

	with := func(connections int, read, write time.Duration) redis.Options {
		o := base
		o.PoolSize, o.ReadTimeout, o.WriteTimeout = connections, read, write
		return o
	}
	q.appender.conns = newConnections(with(1, appendTimeout, appendTimeout), q.greetAppender)
	q.confirmer.conns = newConnections(with(1, appendTimeout, connectTimeout), q.servers.refuseRestarted) // WAITAOF blocks
	q.timing = newConnections(with(2, connectTimeout, connectTimeout), q.servers.refuseRestarted)
	q.nodes = newConnections(with(16, connectTimeout, connectTimeout), q.servers.noteIdentity)
	if q.cluster == nil {
		q.client = q.nodes.to("")
		return nil
	}
	q.cluster.conns = newConnections(with(1, connectTimeout, connectTimeout), nil)
	q.client = newClusterClient(q.cluster, q.nodes)
	return nil
}

// freshConn is a connection that may be refused: a server without room for another client
// says so and hangs up, before it has read anything. Who writes meanwhile gets an error
// of the system, which throws away what the server has said.
// (go-redis ignores it in answer to what it asks first.)
type freshConn struct {
	*net.TCPConn                        // go-redis looks at its socket before it uses an idle one
	heard        atomic.Pointer[string] // what the server has said first: a refusal, or empty
	refusal      func() string          // asks again
}

// lastWords bounds the wait for another connection, and that for what a server says to who
// says nothing.
const lastWords = 100 * time.Millisecond

// Read implements net.Conn.
func (c *freshConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 && c.heard.Load() == nil {
		c.heard.Store(new(refusalIn(string(p[:n]))))
	}
	return n, c.explain(err)
}

// Write implements net.Conn.
func (c *freshConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	return n, c.explain(err)
}

func (c *freshConn) explain(err error) error {
	var network net.Error
	if err == nil || errors.Is(err, net.ErrClosed) || errors.As(err, &network) && network.Timeout() {
		return err
	}
	if c.heard.Load() == nil {
		c.heard.Store(new(c.refusal()))
	}
	if said := *c.heard.Load(); said != "" {
		return fmt.Errorf("%w: %s (%w)", ErrUnreachable, said, err)
	}
	return err
}

// refusalIn returns the refusal that an answer begins with; empty: it begins with none.
func refusalIn(answer string) string {
	said, refused := strings.CutPrefix(answer, "-ERR max")
	if !refused {
		return ""
	}
	line, _, _ := strings.Cut(said, "\r\n")
	return "max" + line
}

// dialer is redis.Options.Dialer.
type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

func dialFresh(dial dialer) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			// In the TLS handshake, before which a server without room says nothing.
			return nil, fmt.Errorf("the server hung up in the TLS handshake, as redis does when it has as many clients as its maxclients allows: %w", err)
		}
		plain, ok := conn.(*net.TCPConn)
		if err != nil || !ok {
			return conn, err
		}
		refusal := func() string {
			brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords) // Read and Write wait for it
			defer cancel()
			again, err := dial(brief, network, addr)
			if err != nil {
				return ""
			}
			defer func() { _ = again.Close() }()
			_ = again.SetReadDeadline(time.Now().Add(lastWords)) // a connection that is closed says nothing
			line, _ := bufio.NewReader(again).ReadString('\n')
			return refusalIn(line)
		}
		return &freshConn{TCPConn: plain, refusal: refusal}, nil
	}
}

// locate returns how to connect to the server, and notes whom to ask for it.
func (q *Queue) locate(o *Options) (redis.Options, error) {
	switch {
	case o.Sentinel != nil && o.Cluster == nil && o.URL == "":
		q.sentinel = newSentinel(o.Sentinel)
		return redis.Options{
			Addr: "sentinel:" + o.Sentinel.Master, Dialer: q.sentinel.dial,
			Username: o.Sentinel.User, Password: o.Sentinel.Password, DB: o.Sentinel.DB,
		}, nil
	case o.Cluster != nil && o.Sentinel == nil && o.URL == "":
		q.cluster = &cluster{seeds: o.Cluster.Addresses}
		return redis.Options{Username: o.Cluster.User, Password: o.Cluster.Password, TLSConfig: tlsConfig(o.Cluster.TLS)}, nil
	case o.Cluster != nil || o.Sentinel != nil || o.URL == "":
		return redis.Options{}, errors.New("give one of queue.redis, queue.sentinel and queue.cluster")
	}
	options, err := redis.ParseURL(o.URL)
	if err != nil {
		// The cause would show the URL, and with it the password.
		return redis.Options{}, errors.New("parse the redis url: it is malformed; write redis://[user:password@]host:port[/db], or rediss:// for TLS")
	}
	options.DialTimeout = connectTimeout // the dialer's, which reads it now
	options.Dialer = withoutHost(redis.NewDialer(options))
	return *options, nil
}

// withoutHost keeps the host out of errors: in an URL that is typed wrongly the
// password may stand in its place.
func withoutHost(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if dns, ok := errors.AsType[*net.DNSError](err); ok {
			dns.Name = "[host of the redis url]"
		}
		return conn, err
	}
}

func tlsConfig(on bool) *tls.Config {
	if !on {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12}
}

// masters lists the addresses of the servers that the keys are on.
func (q *Queue) masters(ctx context.Context) ([]string, error) {
	if q.cluster == nil {
		return []string{""}, nil
	}
	view, err := q.cluster.current(ctx, clusterAge)
	if err != nil {
		return nil, err
	}
	return view.masters, nil
}

func (q *Queue) masterOf(ctx context.Context, key string) (string, error) {
	if q.cluster == nil {
		return "", nil
	}
	return q.cluster.owner(ctx, slotOf(key))
}

// suspectCluster asks the cluster's nodes again if the error may mean that they changed.
func (q *Queue) suspectCluster(ctx context.Context, err error) {
	if q.cluster != nil && isWayError(err) {
		q.cluster.suspect(ctx)
	}
}

// scan calls f for every key, on every master, that matches; for some of them twice.
func (q *Queue) scan(ctx context.Context, pattern string, f func(key string) error) error {
	const page = 1000
	masters, err := q.masters(ctx)
	if err != nil {
		return err
	}
	for _, addr := range masters {
		keys := q.nodes.to(addr).Scan(ctx, 0, pattern, page).Iterator()
		for keys.Next(ctx) {
			if err := f(keys.Val()); err != nil {
				return err
			}
		}
		if err := keys.Err(); err != nil {
			return err
		}
	}
	return nil
}

// subscribe listens on the channel that wakes owners. In a cluster every node
// hears what is published on any.
func (q *Queue) subscribe(ctx context.Context) (*redis.PubSub, error) {
	addr, err := q.masterOf(ctx, q.keys.wake())
	if err != nil {
		return nil, err
	}
	return q.nodes.to(addr).Subscribe(ctx, q.keys.wake()), nil
}
