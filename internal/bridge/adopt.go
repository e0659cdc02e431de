package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gancho/mapping"
)

// adopt binds other rules, or the same ones to what the source has become, and
// uses them from the next transaction on. Its caller holds adopting.
func (c *capture) adopt(ctx context.Context, rules *mapping.Rules) error {
	types := c.reader.TypesVersion()
	bound, source, err := c.prepare(ctx, rules, true)
	if err != nil {
		return err
	}
	if !slices.Equal(source.Publications, c.publications) {
		return fmt.Errorf("the rules need the publications %s, and the stream has %s: restart the bridge to read them",
			strings.Join(source.Publications, ", "), strings.Join(c.publications, ", "))
	}
	if err := c.reader.ReloadTypes(ctx); err != nil {
		return err
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
