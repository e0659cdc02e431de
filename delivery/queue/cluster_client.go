package queue

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// newClusterClient returns a client whose commands go to the masters that
// their keys are on. It is go-redis' plain client with what it does replaced:
// go-redis' own cluster client keeps connections to replicas, on which nobody
// would notice that they were promoted; it repeats commands automatically; and
// it learns of changes in the background, later than we have to.
func newClusterClient(of *cluster, nodes *connections) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: "cluster", MaxRetries: -1, PipelinePoolSize: -1, DisableIdentity: true, ContextTimeoutEnabled: true})
	c.AddHook(&clusterHook{of, nodes})
	return c
}

type clusterHook struct {
	cluster *cluster
	nodes   *connections
}

// maxRedirects is how often a command follows a slot that has moved.
const maxRedirects = 3

// DialHook implements redis.Hook: this client has no connections of its own.
func (h *clusterHook) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("connect to a cluster: a command is not one that is sent to a node by its key")
	}
}

// ProcessHook implements redis.Hook.
func (h *clusterHook) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		addr, err := h.cluster.owner(ctx, slotOfCommand(cmd))
		if err != nil {
			cmd.SetErr(err)
			return err
		}
		err = h.nodes.to(addr).Process(ctx, cmd)
		return h.follow(ctx, cmd, err)
	}
}

// follow repeats a command that was not executed, because another node has to.
func (h *clusterHook) follow(ctx context.Context, cmd redis.Cmder, err error) error {
	for range maxRedirects {
		addr, asking, moved := redirection(err)
		if !moved {
			break
		}
		if asking {
			pipe := h.nodes.to(addr).Pipeline()
			_ = pipe.BatchProcess(ctx, redis.NewStatusCmd(ctx, "ASKING"), cmd) // it only queues
			_, _ = pipe.Exec(ctx)                                              // the command has its error
			err = cmd.Err()
			continue
		}
		h.cluster.suspect(ctx)
		err = h.nodes.to(addr).Process(ctx, cmd)
	}
	if isWayError(err) {
		h.cluster.suspect(ctx)
	}
	return err
}

// ProcessPipelineHook implements redis.Hook, for pipelines and transactions.
func (h *clusterHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		if n := len(commands); n > 1 && strings.EqualFold(commands[0].Name(), "multi") {
			return h.transaction(ctx, commands[1:n-1])
		}
		parts := map[string][]redis.Cmder{}
		for _, cmd := range commands {
			addr, err := h.cluster.owner(ctx, slotOfCommand(cmd))
			if err != nil {
				cmd.SetErr(err)
				continue
			}
			parts[addr] = append(parts[addr], cmd)
		}
		var sent sync.WaitGroup
		for addr, part := range parts {
			sent.Go(func() { h.pipeline(ctx, addr, part) })
		}
		sent.Wait()
		return firstError(commands)
	}
}

// pipeline sends one node its part. What went wrong is with the commands.
func (h *clusterHook) pipeline(ctx context.Context, addr string, part []redis.Cmder) {
	pipe := h.nodes.to(addr).Pipeline()
	_ = pipe.BatchProcess(ctx, part...) // it only queues
	if _, err := pipe.Exec(ctx); err == nil {
		return
	}
	for _, cmd := range part {
		err := cmd.Err()
		if _, _, moved := redirection(err); moved {
			err = h.follow(ctx, cmd, err)
			cmd.SetErr(err)
		}
		if isWayError(err) {
			h.cluster.suspect(ctx)
			return // the others have failed in the same way
		}
	}
}

// transaction sends commands of one slot. It follows no redirection: whoever
// has it repeated finds the slot's new place.
func (h *clusterHook) transaction(ctx context.Context, commands []redis.Cmder) error {
	slot, found := uint16(0), false
	for _, cmd := range commands {
		key, ok := keyOf(cmd)
		if !ok {
			continue
		}
		if found && slotOf(key) != slot {
			err := errors.New("execute a transaction: its keys are of different slots")
			commands[0].SetErr(err)
			return err
		}
		slot, found = slotOf(key), true
	}
	addr, err := h.cluster.owner(ctx, slot)
	if err != nil {
		commands[0].SetErr(err)
		return err
	}
	tx := h.nodes.to(addr).TxPipeline()
	_ = tx.BatchProcess(ctx, commands...) // it only queues
	_, err = tx.Exec(ctx)
	if _, _, moved := redirection(firstError(commands)); err != nil && (moved || isWayError(err)) {
		h.cluster.suspect(ctx)
	}
	return err
}

func firstError(commands []redis.Cmder) error {
	for _, cmd := range commands {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}

// redirection reports where a node says that a slot is.
func redirection(err error) (addr string, asking, moved bool) {
	if err == nil || !isReply(err) {
		return "", false, false
	}
	what, rest, _ := strings.Cut(err.Error(), " ")
	if what != "MOVED" && what != "ASK" {
		return "", false, false
	}
	_, addr, _ = strings.Cut(rest, " ")
	colon := strings.LastIndexByte(addr, ':')
	if colon <= 0 { // it does not know its host
		return "", false, false
	}
	return net.JoinHostPort(addr[:colon], addr[colon+1:]), what == "ASK", true
}

// slotOfCommand is the slot of a command's key; without a key, always the same one.
func slotOfCommand(cmd redis.Cmder) uint16 {
	key, _ := keyOf(cmd)
	return slotOf(key)
}

// keyOf returns a command's first key. It knows the commands that this package
// uses: https://redis.io/docs/latest/develop/reference/key-specs/
func keyOf(cmd redis.Cmder) (string, bool) {
	args := cmd.Args()
	at := 1
	switch strings.ToLower(cmd.Name()) {
	case "ping", "publish", "info", "script", "config", "wait", "time":
		return "", false
	case "eval", "evalsha":
		at = 3
	case "xinfo", "memory":
		at = 2
	}
	if at >= len(args) {
		return "", false
	}
	switch key := args[at].(type) {
	case string:
		return key, true
	case *string:
		return *key, true
	}
	return "", false
}
