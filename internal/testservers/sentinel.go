package testservers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// MasterName is the name under which a Sentinel watches its master.
const MasterName = "mymaster"

// sentinelCount is how many sentinels watch; two of them decide.
const sentinelCount = 3

// downAfter is how long a master may be silent before it counts as failed:
// short, and long enough for a busy machine.
const downAfter = time.Second

// SentinelOptions are the number of replicas and the settings of the servers.
type SentinelOptions struct {
	Replicas int               // 0: two
	Settings map[string]string // as in RedisOptions
}

// Sentinel is a private Redis with replicas, and three sentinels over them.
type Sentinel struct {
	nodes     []*Redis // the first began as master
	sentinels []*Redis
}

// StartSentinel starts everything and waits until the sentinels know each
// other and all servers. Close removes it.
func StartSentinel(o SentinelOptions) (_ *Sentinel, err error) {
	o.Replicas = cmp.Or(o.Replicas, 2)
	s := &Sentinel{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start Redis with Sentinel: %w", err)
			s.Close()
		}
	}()
	settings := map[string]string{"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
	maps.Copy(settings, o.Settings)
	if s.nodes, err = startNodes(1+o.Replicas, settings); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, r := range s.nodes[1:] {
		if err := r.do(ctx, "REPLICAOF", "127.0.0.1", s.nodes[0].port); err != nil {
			return nil, err
		}
	}
	for _, r := range s.nodes[1:] {
		client := r.client()
		defer func() { _ = client.Close() }()
		if err := await(ctx, func() error { return inSync(ctx, client) }); err != nil {
			return nil, err
		}
	}
	if err := s.watch(); err != nil {
		return nil, err
	}
	return s, await(ctx, func() error { return s.incomplete(ctx) })
}

// watch starts the sentinels.
func (s *Sentinel) watch() error {
	s.sentinels = make([]*Redis, sentinelCount)
	var group errgroup.Group
	for i := range s.sentinels {
		group.Go(func() error {
			r, err := newRedis(nil)
			if err != nil {
				return err
			}
			s.sentinels[i] = r
			r.sentinel, r.conf, r.settings = true, filepath.Join(r.dir, "sentinel.conf"), map[string]string{"bind": "127.0.0.1"}
			conf := fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]d 2\nsentinel down-after-milliseconds %[1]s %[3]d\n"+
				"sentinel failover-timeout %[1]s 10000\nsentinel parallel-syncs %[1]s 2\n", MasterName, s.nodes[0].port, downAfter.Milliseconds())
			if err := os.WriteFile(r.conf, []byte(conf), 0o600); err != nil {
				return err
			}
			if err := r.first(); err != nil {
				return err
			}
			// It checks more often than by default, and does not mistake a busy machine
			// for a clock that jumps.
			return r.do(context.Background(), "SENTINEL", "DEBUG",
				"info-period", 500, "publish-period", 500, "ask-period", 500, "tilt-trigger", 60_000)
		})
	}
	return group.Wait()
}

// sentinelClient is a connection to a sentinel.
func (r *Redis) sentinelClient() *redis.SentinelClient {
	return redis.NewSentinelClient(&redis.Options{Addr: r.Addr(), MaxRetries: -1, DisableIdentity: true})
}

// incomplete returns what the sentinels still wait for.
func (s *Sentinel) incomplete(ctx context.Context) error {
	for _, r := range s.sentinels {
		client := r.sentinelClient()
		state, err := client.Master(ctx, MasterName).Result()
		_ = client.Close()
		if err != nil {
			return err
		}
		others, replicas := strconv.Itoa(len(s.sentinels)-1), strconv.Itoa(len(s.nodes)-1)
		if state["num-other-sentinels"] != others || state["num-slaves"] != replicas || state["flags"] != "master" {
			return fmt.Errorf("a sentinel knows %s others and %s replicas, and of the master: %s",
				state["num-other-sentinels"], state["num-slaves"], state["flags"])
		}
	}
	return nil
}

// Addresses are the sentinels', as host:port.
func (s *Sentinel) Addresses() []string { return addressesOf(s.sentinels) }

// Nodes are the servers: the one that began as master, then its replicas.
func (s *Sentinel) Nodes() []*Redis { return s.nodes }

// Sentinels are the sentinels.
func (s *Sentinel) Sentinels() []*Redis { return s.sentinels }

// Master returns the server that the sentinels name now.
func (s *Sentinel) Master(ctx context.Context) (*Redis, error) {
	last := errors.New("no sentinel is running")
	for _, r := range s.sentinels {
		if !r.process.running() {
			continue
		}
		client := r.sentinelClient()
		addr, err := client.GetMasterAddrByName(ctx, MasterName).Result()
		_ = client.Close()
		if last = err; err != nil {
			continue
		}
		if i := slices.Index(addressesOf(s.nodes), addr[0]+":"+addr[1]); i >= 0 {
			return s.nodes[i], nil
		}
	}
	return nil, fmt.Errorf("find the master: %w", last)
}

// Close kills everything and removes the data. It may be called twice.
func (s *Sentinel) Close() { closeAll(append(s.sentinels, s.nodes...)) }
