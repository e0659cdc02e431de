package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"gancho/internal/testservers"
)

// errEnded is why what needs the bridge stops when the bridge does.
var errEnded = errors.New("the bridge ended before the demo did")

// Command returns an Options.Bridge that runs the command at path as a process
// of its own, which writes its log to stderr and creates the slot and the
// publication. The process outlives a Ctrl-C in the terminal, so that what is
// in flight arrives, and on Linux ends with this process in any case.
func Command(path string, stderr io.Writer) func(ctx context.Context, configFile string) error {
	return func(ctx context.Context, configFile string) error {
		cmd := exec.Command(path, "run", "--create", "--config", configFile)
		cmd.Stderr = stderr
		p, err := testservers.StartProcess(cmd, syscall.SIGKILL, nil)
		if err != nil {
			return err
		}
		select {
		case <-p.Done():
		case <-ctx.Done():
			p.Signal(syscall.SIGTERM)
		}
		return p.Err()
	}
}

// FindCommand returns the path of gancho: the program beside this one, which
// is where `make build` writes it, else the one that PATH has.
func FindCommand() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find gancho: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), "gancho")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if found, err := exec.LookPath("gancho"); err == nil {
		return found, nil
	}
	return "", fmt.Errorf("find gancho: %s does not exist and PATH has none; build both programs: make build", path)
}

// bridge is one run of Options.Bridge.
type bridge struct {
	cancel context.CancelFunc
	ended  context.Context //nolint:containedctx // it is done when the bridge has returned
	err    error           // what it returned; to be read when ended is done
}

// startBridge runs the bridge until stop.
func startBridge(ctx context.Context, run func(context.Context, string) error, configFile string) *bridge {
	ended, end := context.WithCancelCause(context.WithoutCancel(ctx))
	ctx, cancel := context.WithCancel(ctx)
	b := &bridge{cancel: cancel, ended: ended}
	go func() {
		b.err = run(ctx, configFile)
		end(errEnded)
	}()
	return b
}

// whileRuns returns the context, done as well when the bridge has ended.
func (b *bridge) whileRuns(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(b.ended, func() { cancel(errEnded) })
	return ctx
}

// hasEnded reports whether the bridge has returned. What stop then returns is
// never nil, unless stop was called before.
func (b *bridge) hasEnded() bool { return b.ended.Err() != nil }

// stop ends the bridge, waits for it, and returns its error. A bridge that had
// ended before is an error in any case.
func (b *bridge) stop() error {
	early := b.hasEnded()
	b.cancel()
	<-b.ended.Done()
	switch {
	case b.err != nil:
		return fmt.Errorf("run the bridge: %w", b.err)
	case early:
		return errEnded
	}
	return nil
}
