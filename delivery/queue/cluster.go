package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// slotCount is how many slots a Redis Cluster has.
const slotCount = 16384

// slotOf returns the slot of a key: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
func slotOf(key string) uint16 {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if tag, _, ok := strings.Cut(key[open+1:], "}"); ok && tag != "" {
			key = tag
		}
	}
	var crc uint16 // CRC-16/XMODEM
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			carry := crc&0x8000 != 0
			crc <<= 1
			if carry {
				crc ^= 0x1021
			}
		}
	}
	return crc % slotCount
}

// cluster knows which master of a Redis Cluster has which slot, by what its nodes
// answer. Of different answers, as while it is cut in two, that of the newest
// epoch counts, and none of a node that is not in touch with the majority.
type cluster struct {
	seeds []string
	conns *connections // to any node, be it a replica

	view atomic.Pointer[clusterView] // nil before the nodes were asked

	mu        sync.Mutex // held by whoever asks the nodes
	refreshed time.Time  // when that was
}

// clusterView is never changed.
type clusterView struct {
	epoch   uint64
	owners  [slotCount]string // addresses; empty: none
	masters []string          // those that have slots, sorted
	nodes   []string          // all that were named
	missing int               // slots that no node has
}

// How old a view may be: when something was wrong, and otherwise.
const (
	clusterSuspicion = 50 * time.Millisecond
	clusterAge       = time.Second
	// clusterTimeout keeps a node that hangs from hiding what the others say.
	clusterTimeout = 2 * time.Second
)

func (c *cluster) current(ctx context.Context, age time.Duration) (*clusterView, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.view.Load()
	if old != nil && time.Since(c.refreshed) < age {
		return old, nil
	}
	view, err := c.read(ctx, old)
	if err != nil {
		return nil, err
	}
	c.refreshed = time.Now()
	if old != nil && view.epoch < old.epoch {
		return old, nil // the nodes that know more do not answer now
	}
	c.view.Store(view)
	return view, nil
}

// owner returns the address of the slot's master, by the view that there is.
func (c *cluster) owner(ctx context.Context, slot uint16) (string, error) {
	view := c.view.Load()
	if view == nil {
		var err error
		if view, err = c.current(ctx, 0); err != nil {
			return "", err
		}
	}
	if view.owners[slot] == "" {
		return "", fmt.Errorf("%w: no node of the cluster has slot %d", ErrUnreachable, slot)
	}
	return view.owners[slot], nil
}

// suspect asks the nodes again, unless that was just done: an answer was one of
// a node that is not the slot's master, or there was none.
func (c *cluster) suspect(ctx context.Context) {
	_, _ = c.current(ctx, clusterSuspicion) // the next caller sees the error
}

func (c *cluster) read(ctx context.Context, old *clusterView) (*clusterView, error) {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	addresses := slices.Clone(c.seeds)
	if old != nil {
		addresses = append(addresses, old.nodes...)
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	views, errs := make([]*clusterView, len(addresses)), make([]error, len(addresses))
	var asked sync.WaitGroup
	for i, addr := range addresses {
		asked.Go(func() { views[i], errs[i] = askNode(ctx, c.conns.to(addr)) })
	}
	asked.Wait()
	var best *clusterView
	for _, v := range views {
		if v != nil && (best == nil || v.epoch > best.epoch) {
			best = v
		}
	}
	if best != nil {
		return best, nil
	}
	for _, err := range errs {
		var setting *SettingError
		if errors.As(err, &setting) || isReply(err) && !errors.Is(err, ErrUnreachable) {
			return nil, err // that an operator has to fix
		}
	}
	return nil, fmt.Errorf("ask the cluster's nodes: %w", errs[0])
}

func askNode(ctx context.Context, node *redis.Client) (*clusterView, error) {
	pipe := node.Pipeline()
	text, slots := pipe.ClusterInfo(ctx), pipe.ClusterSlots(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		if isReply(err) && strings.Contains(err.Error(), "cluster support disabled") {
			return nil, &SettingError{"cluster-enabled", "no", "this Redis is no cluster: give its address as queue.redis"}
		}
		return nil, unreachable(err)
	}
	state := info{}
	state.add(text.Val())
	if state["cluster_state"] != "ok" {
		return nil, fmt.Errorf("%w: a node says that the cluster is down: %s of %d slots are served", ErrUnreachable, state["cluster_slots_ok"], slotCount)
	}
	view := &clusterView{missing: slotCount}
	view.epoch, _ = strconv.ParseUint(state["cluster_current_epoch"], 10, 64) // an older one counts less
	for _, part := range slots.Val() {
		if len(part.Nodes) == 0 {
			continue
		}
		for _, n := range part.Nodes {
			view.nodes = append(view.nodes, n.Addr)
		}
		master := part.Nodes[0].Addr
		view.masters = append(view.masters, master)
		for slot := max(part.Start, 0); slot <= min(part.End, slotCount-1); slot++ {
			view.owners[slot] = master
			view.missing--
		}
	}
	slices.Sort(view.masters)
	view.masters = slices.Compact(view.masters)
	return view, nil
}
