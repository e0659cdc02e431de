package testservers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// clusterSlots is how many slots a Redis Cluster has.
const clusterSlots = 16384

// nodeTimeout is how long a node of a cluster may be silent before it counts as
// failed: short, and long enough for a busy machine.
const nodeTimeout = 1500 * time.Millisecond

// ClusterOptions are the size of a cluster and the settings of its nodes.
type ClusterOptions struct {
	Masters  int               // 0: three
	Replicas int               // of each master
	Settings map[string]string // as in RedisOptions
}

// Cluster is a private Redis Cluster.
type Cluster struct {
	nodes   []*Redis // the masters at the start, then the replicas of each
	masters int
}

// StartCluster starts a cluster and waits until all nodes report it complete
// and all replicas are in sync. Close removes it.
func StartCluster(o ClusterOptions) (_ *Cluster, err error) {
	o.Masters = cmp.Or(o.Masters, 3)
	settings := map[string]string{
		"cluster-enabled": "yes", "cluster-node-timeout": strconv.FormatInt(nodeTimeout.Milliseconds(), 10),
		"cluster-allow-replica-migration": "no", "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1",
	}
	maps.Copy(settings, o.Settings)
	c := &Cluster{masters: o.Masters}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start a Redis Cluster: %w", err)
			c.Close()
		}
	}()
	if c.nodes, err = startNodes(o.Masters*(1+o.Replicas), settings); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return c, c.join(ctx)
}

// startNodes starts Redis servers on ports whose cluster bus, 10000 above, is
// free, too.
func startNodes(n int, settings map[string]string) ([]*Redis, error) {
	nodes := make([]*Redis, n)
	var group errgroup.Group
	for i := range nodes {
		group.Go(func() error {
			const attempts = 5 // another process may take a port between our check and the server's start
			for attempt := 1; ; attempt++ {
				r, err := newRedis(settings)
				if err != nil {
					return err
				}
				if err = r.first(); err == nil {
					nodes[i] = r
				}
				if err == nil || attempt == attempts {
					return err
				}
			}
		})
	}
	err := group.Wait()
	if err != nil {
		closeAll(nodes)
	}
	return nodes, err
}

// closeAll closes those that were started.
func closeAll(nodes []*Redis) {
	for _, r := range nodes {
		if r != nil {
			r.Close()
		}
	}
}

func addressesOf(nodes []*Redis) []string {
	out := make([]string, len(nodes))
	for i, r := range nodes {
		out[i] = r.Addr()
	}
	return out
}

// busOffset is the distance of a node's cluster bus from its port.
const busOffset = 10000

// quietPort returns a port that is free now, as is its bus, and below those that
// the kernel gives to outgoing connections, so that it stays free while its
// server is down.
func quietPort() (int, error) {
	const lowest, highest = 10000, 22000
	for range 1000 {
		port := lowest + rand.IntN(highest-lowest)
		if listens(port) && listens(port+busOffset) {
			return port, nil
		}
	}
	return 0, errors.New("find a free port: all that were tried are taken")
}

func listens(port int) bool {
	l, err := net.Listen("tcp", net127(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// join joins the nodes into a cluster.
func (c *Cluster) join(ctx context.Context) error {
	clients := make([]*redis.Client, len(c.nodes))
	ids := make([]string, len(c.nodes))
	for i, node := range c.nodes {
		clients[i] = node.client()
		defer func() { _ = clients[i].Close() }()
		var err error
		if ids[i], err = clients[i].ClusterMyID(ctx).Result(); err != nil {
			return err
		}
		if err := clients[i].Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return err
		}
		if i < c.masters {
			from, to := i*clusterSlots/c.masters, (i+1)*clusterSlots/c.masters-1
			if err := clients[i].ClusterAddSlotsRange(ctx, from, to).Err(); err != nil {
				return err
			}
		}
	}
	// Every node meets every other: gossip alone takes seconds.
	for i := range clients {
		for j := range c.nodes {
			if i == j {
				continue
			}
			if err := clients[i].ClusterMeet(ctx, "127.0.0.1", strconv.Itoa(c.nodes[j].port)).Err(); err != nil {
				return err
			}
		}
	}
	for i := c.masters; i < len(c.nodes); i++ {
		master := ids[(i-c.masters)%c.masters]
		err := await(ctx, func() error { return clients[i].ClusterReplicate(ctx, master).Err() })
		if err != nil {
			return err
		}
	}
	for i := range clients {
		if err := await(ctx, func() error { return c.incomplete(ctx, clients[i], i >= c.masters) }); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	return nil
}

// incomplete returns what a node still waits for.
func (c *Cluster) incomplete(ctx context.Context, node *redis.Client, replica bool) error {
	state, err := node.ClusterInfo(ctx).Result()
	if err != nil {
		return err
	}
	if !strings.Contains(state, "cluster_state:ok") || !strings.Contains(state, fmt.Sprintf("cluster_known_nodes:%d\r\n", len(c.nodes))) {
		return errors.New("the cluster is not complete")
	}
	nodes, err := node.ClusterNodes(ctx).Result()
	if err != nil {
		return err
	}
	if n := strings.Count(nodes, "slave"); n != len(c.nodes)-c.masters || strings.Contains(nodes, "handshake") || strings.Contains(nodes, "fail") {
		return fmt.Errorf("%d replicas are known", n)
	}
	if !replica {
		return nil
	}
	return inSync(ctx, node)
}

// inSync returns an error until the replica has all of its master's data.
func inSync(ctx context.Context, replica *redis.Client) error {
	replication, err := replica.Info(ctx, "replication").Result()
	if err == nil && !strings.Contains(replication, "master_link_status:up") {
		err = errors.New("the replica is not in sync")
	}
	return err
}

// await calls until there is no error, and returns the last one when the
// context ends.
func await(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause()
	}
}

// Addresses are the nodes', as host:port.
func (c *Cluster) Addresses() []string { return addressesOf(c.nodes) }

// Nodes are all nodes: those that began as masters, then the replicas.
func (c *Cluster) Nodes() []*Redis { return c.nodes }

// ReplicaOf returns the first replica of a node that began as a master, or nil.
func (c *Cluster) ReplicaOf(master *Redis) *Redis {
	if i := slices.Index(c.nodes[:c.masters], master); i >= 0 && len(c.nodes) > c.masters {
		return c.nodes[c.masters+i]
	}
	return nil
}

// Owner returns the master of the key's slot, as the first running node that
// answers sees it.
func (c *Cluster) Owner(ctx context.Context, key string) (*Redis, error) {
	var last error
	for _, node := range c.nodes {
		if !node.process.running() {
			continue
		}
		owner, err := c.ownerAt(ctx, node, key)
		if err == nil {
			return owner, nil
		}
		last = err
	}
	return nil, fmt.Errorf("find the master of %q: %w", key, last)
}

func (c *Cluster) ownerAt(ctx context.Context, node *Redis, key string) (*Redis, error) {
	client := node.client()
	defer func() { _ = client.Close() }()
	slot, err := client.ClusterKeySlot(ctx, key).Result()
	if err != nil {
		return nil, err
	}
	ranges, err := client.ClusterSlots(ctx).Result() //nolint:staticcheck // ClusterShards, which replaces it, needs Redis 7
	if err != nil {
		return nil, err
	}
	for _, r := range ranges {
		if int64(r.Start) > slot || slot > int64(r.End) || len(r.Nodes) == 0 {
			continue
		}
		if i := slices.Index(c.Addresses(), r.Nodes[0].Addr); i >= 0 {
			return c.nodes[i], nil
		}
	}
	return nil, fmt.Errorf("no node has slot %d", slot)
}

// MoveSlot moves the key's slot, with all keys in it, to another master, as
// redis-cli does. It returns when every master knows of it.
func (c *Cluster) MoveSlot(ctx context.Context, key string, to *Redis) error {
	from, err := c.Owner(ctx, key)
	if err != nil {
		return err
	}
	source, target := from.client(), to.client()
	defer func() { _, _ = source.Close(), target.Close() }()
	slot, err := source.ClusterKeySlot(ctx, key).Result()
	if err != nil {
		return err
	}
	sourceID, targetID := source.ClusterMyID(ctx).Val(), target.ClusterMyID(ctx).Val()
	if err := target.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", sourceID).Err(); err != nil {
		return err
	}
	if err := source.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", targetID).Err(); err != nil {
		return err
	}
	const page = 100
	for {
		keys, err := source.ClusterGetKeysInSlot(ctx, int(slot), page).Result()
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			break
		}
		for _, k := range keys {
			err := source.Migrate(ctx, "127.0.0.1", strconv.Itoa(to.port), k, 0, startTimeout).Err()
			if err != nil {
				return fmt.Errorf("migrate %q: %w", k, err)
			}
		}
	}
	for _, node := range c.nodes {
		// The target first would be enough; the others learn of it by gossip.
		err := node.do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", targetID)
		if err != nil && !strings.Contains(err.Error(), "only with masters") {
			return err
		}
	}
	return nil
}

// Close kills the nodes and removes their data. It may be called twice.
func (c *Cluster) Close() { closeAll(c.nodes) }

// client is a connection for setting up.
// client waits for an answer as long as for a server's start: a busy machine takes longer than the
// three seconds of the library.
func (r *Redis) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: r.Addr(), MaxRetries: -1, PoolSize: 1, DisableIdentity: true,
		DialTimeout: startTimeout, ReadTimeout: startTimeout, WriteTimeout: startTimeout, ContextTimeoutEnabled: true,
	})
}

// do runs a command over a connection of its own.
func (r *Redis) do(ctx context.Context, command ...any) error {
	client := r.client()
	defer func() { _ = client.Close() }()
	return client.Do(ctx, command...).Err()
}
