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

// ring is which master of a cluster has which slot, as the cluster's nodes
// tell it. Of different answers, as while it is cut in two, that of the newest
// epoch counts, and none of a node that is not in touch with the majority.
type ring struct {
	seeds []string
	ask   *link // to any node, be it a replica

	view atomic.Pointer[ringView] // nil before the first look

	mu     sync.Mutex // whoever looks has it
	looked time.Time  // when that was
}

// ringView is never changed.
type ringView struct {
	epoch   uint64
	owners  [slotCount]string // addresses; empty: nobody
	masters []string          // those that have slots, sorted
	nodes   []string          // all that were named
	missing int               // slots that nobody has
}

// Pauses between looks at the cluster: when something was wrong, and else.
const (
	ringSuspicion = 50 * time.Millisecond
	ringAge       = time.Second
	// ringTimeout bounds one look: a node that hangs must not hide what the
	// others say.
	ringTimeout = 2 * time.Second
)

// current returns the view after a look that is at most so old.
func (r *ring) current(ctx context.Context, age time.Duration) (*ringView, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.view.Load()
	if old != nil && time.Since(r.looked) < age {
		return old, nil
	}
	view, err := r.look(ctx, old)
	if err != nil {
		return nil, err
	}
	r.looked = time.Now()
	if old != nil && view.epoch < old.epoch {
		return old, nil // those who know more do not answer now
	}
	r.view.Store(view)
	return view, nil
}

// known is the view without a look, if there is one.
func (r *ring) known(ctx context.Context) (*ringView, error) {
	if view := r.view.Load(); view != nil {
		return view, nil
	}
	return r.current(ctx, 0)
}

// owner returns the address of the slot's master, as known.
func (r *ring) owner(ctx context.Context, slot uint16) (string, error) {
	view, err := r.known(ctx)
	if err != nil {
		return "", err
	}
	if view.owners[slot] == "" {
		return "", fmt.Errorf("%w: no node of the cluster has slot %d", ErrUnreachable, slot)
	}
	return view.owners[slot], nil
}

// suspect looks again, unless somebody has just done so: an answer was one of
// a node that is not the slot's master, or there was none.
func (r *ring) suspect(ctx context.Context) {
	_, _ = r.current(ctx, ringSuspicion) // who asks next sees what is wrong
}

// look asks all nodes at once.
func (r *ring) look(ctx context.Context, old *ringView) (*ringView, error) {
	ctx, cancel := context.WithTimeout(ctx, ringTimeout)
	defer cancel()
	addresses := slices.Clone(r.seeds)
	if old != nil {
		addresses = append(addresses, old.nodes...)
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	views, errs := make([]*ringView, len(addresses)), make([]error, len(addresses))
	var asked sync.WaitGroup
	for i, addr := range addresses {
		asked.Go(func() { views[i], errs[i] = askRing(ctx, r.ask.at(addr)) })
	}
	asked.Wait()
	var best *ringView
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
			return nil, err // that somebody has to look at
		}
	}
	return nil, fmt.Errorf("ask the cluster's nodes: %w", errs[0])
}

// askRing asks one node.
func askRing(ctx context.Context, node *redis.Client) (*ringView, error) {
	pipe := node.Pipeline()
	state, slots := pipe.ClusterInfo(ctx), pipe.ClusterSlots(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		if isReply(err) && strings.Contains(err.Error(), "cluster support disabled") {
			return nil, &SettingError{"cluster-enabled", "no", "this Redis is no cluster: give its address as queue.redis"}
		}
		return nil, unreachable(err)
	}
	told := parseInfo(state.Val())
	if told["cluster_state"] != "ok" {
		return nil, fmt.Errorf("%w: a node says that the cluster is down: %s of %d slots are served", ErrUnreachable, told["cluster_slots_ok"], slotCount)
	}
	view := &ringView{missing: slotCount}
	view.epoch, _ = strconv.ParseUint(told["cluster_current_epoch"], 10, 64) // an older one counts less
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
