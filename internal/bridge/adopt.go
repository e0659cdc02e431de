package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gancho/cdc"
	"gancho/mapping"
)

// adopt binds other rules, or the same ones to what the source has become, and
// uses them from the next transaction on. Its caller holds adopting.
func (c *capture) adopt(ctx context.Context, rules *mapping.Rules) error {
	if err := c.hasSlot(ctx); err != nil {
		return err
	}
	types := c.reader.TypesVersion()
	// The types of thousands of tables take the server a tenth of a second: they are read meanwhile. Should one be altered now, the version
	// of before is noted, and the rules are bound again.
	beside, read := context.WithCancel(ctx)
	defer read()
	var reloading sync.WaitGroup
	var failed error
	reloading.Go(func() {
		_, failed = waitFor(beside, c.Log, "source", func() (struct{}, error) { return struct{}{}, c.reader.ReloadTypes(beside) })
	})
	bound, source, err := c.prepare(ctx, rules)
	if err != nil {
		read()
	}
	if reloading.Wait(); err != nil {
		return err
	}
	if source.SlotCreated { // it has gone right after hasSlot
		return errors.Join(errNoSlot, cdc.DropSlot(ctx, c.Source))
	}
	if !slices.Equal(source.Publications, c.publications) {
		return fmt.Errorf("the rules need the publications %s, and the stream has %s: restart the bridge to read them",
			strings.Join(source.Publications, ", "), strings.Join(c.publications, ", "))
	}
	if failed != nil {
		return failed
	}
	if err := c.number(ctx, bound); err != nil {
		return err
	}
	c.lookup.Inherit(c.checked)
	if err := c.rememberSource(ctx); err != nil {
		c.Log.Warn().Err(err).Msg("the numbers of new rules are in redis alone; they are stored within the hour")
	}
	c.next.Store(bound)
	c.typesBound.Store(types)
	c.watch(bound)
	signal(c.stage.timers) // some may have lost their rule
	return nil
}

var errNoSlot = errors.New("the replication slot has gone; start gancho again, which names what is lost")

// hasSlot refuses to go on without the slot, which prepare might create: only the
// start, which claims the source's epoch, knows of the gap.
func (c *capture) hasSlot(ctx context.Context) error {
	_, err := waitFor(ctx, c.Log, "source", func() (cdc.Slot, error) { return c.gauge.Measure(ctx) })
	if errors.Is(err, cdc.ErrNoSlot) {
		return errNoSlot
	}
	return err
}

// adoptTimeout bounds adoptAgain: the watch of the tables waits for it, and the application
// may keep one of them to itself for hours.
const adoptTimeout = 30 * time.Second

// adoptAgain binds the rules that are in use to what the source has become.
func (c *capture) adoptAgain(ctx context.Context) error {
	c.adopting.Lock()
	defer c.adopting.Unlock()
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	err := c.adopt(ctx, c.definitionsNow().Rules)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("it took longer than %s; the source is unreachable, or a table of the rules is locked (see pg_locks): %w", adoptTimeout, err)
	}
	return err
}
