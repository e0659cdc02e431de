package bridge

import (
	"errors"
	"fmt"
	"time"

	"gancho/cdc"
	"gancho/mapping"
)

// Begin implements cdc.Handler: rules change only between transactions.
func (c *capture) Begin(tx *cdc.Transaction) error {
	if next := c.next.Swap(nil); next != nil {
		if err := c.resolveAll(); err != nil {
			return err
		}
		c.mapper.Swap(next)
		c.verdicts.use(next)
		c.Log.Info().Int("rules", next.Len()).Msg("rules reloaded")
	}
	c.reads.begin(tx)
	c.mapper.Begin(tx)
	return nil
}

// Message implements cdc.MessageHandler.
func (c *capture) Message(tx *cdc.Transaction, m cdc.Message) error { return c.takes(tx, m) }

// Release implements cdc.Holder.
func (c *capture) Release() {
	c.reads.holding = false
	c.mapped = c.reads.handled
}

// Change implements cdc.Handler.
func (c *capture) Change(change *cdc.Change) error {
	err := c.stage.mapChange(c.mapper, change)
	if errors.Is(err, cdc.ErrStaleTypes) {
		return err // the reader sends the change again
	}
	c.metrics.change(change)
	c.reads.change(change)
	c.tables.see(change.Relation)
	if err == nil && c.mapper.Full() {
		err = c.resolve()
	}
	return withPolicy(err)
}

// withPolicy says which setting made an error of the schema end capture.
func withPolicy(err error) error {
	var drift *mapping.SchemaError
	if errors.As(err, &drift) {
		return fmt.Errorf("%w (on_schema_change: stop; nothing is lost: fix the rule and start again, or, for changes that are older than the table as it is now, set source.on_schema_change: park, which sets them aside)", err)
	}
	return err
}

// resolveAll resolves what is pending and reports how far everything is mapped.
func (c *capture) resolveAll() error {
	if err := c.resolve(); err != nil {
		return withPolicy(err)
	}
	c.advance()
	return nil
}

// advance reports to the stage how far everything is mapped, once nothing is pending.
func (c *capture) advance() {
	if c.mapped != 0 && c.mapper.Pending() == 0 {
		if at := c.reads.upTo(c.mapped); at != 0 {
			c.stage.reached(at)
		}
		c.mapped = 0
	}
}

// Commit implements cdc.Handler.
func (c *capture) Commit(tx *cdc.Transaction) error {
	c.lagMu.Lock()
	c.lag.read(tx.End, tx.Time)
	c.lagMu.Unlock()
	c.queue.Passed(tx.Footprint())
	if err := c.complete(tx); err != nil {
		return withPolicy(err)
	}
	c.reads.commit(tx)
	c.stage.handledTo(tx.End)
	c.mapped = tx.End
	if c.mapper.Full() {
		return c.resolveAll()
	}
	c.advance()
	return nil
}

// Keepalive implements cdc.Handler.
func (c *capture) Keepalive(lsn cdc.LSN) error {
	c.reads.keepalive(lsn)
	c.stage.handledTo(lsn)
	c.mapped = lsn
	c.advance()
	return nil
}

// Flush implements cdc.Handler.
func (c *capture) Flush() error {
	if err := c.resolveAll(); err != nil {
		return err
	}
	c.stage.flush()
	return nil
}

// Reset implements cdc.Handler.
func (c *capture) Reset() error {
	c.stage.rewind() // a position that is marked is not of this turn
	if err := c.take(); err != nil {
		return err
	}
	open, err := c.restart() // after take: nobody else records any more
	if err != nil {
		return err
	}
	c.reads.reset(open)
	c.stage.reset()
	c.mapper.Reset()
	c.mapped = 0
	c.lagMu.Lock()
	c.lag = lagClock{}
	c.lagMu.Unlock()
	c.tables.forget.Store(true)
	signal(c.jobsChanged) // those of parked changes
	c.tables.check()
	if !c.whole {
		c.verdicts.began(time.Now())
	}
	c.whole = false
	c.health.streaming.Store(true)
	c.Log.Info().Msg("replication started")
	c.ready.Do(func() { c.Log.Info().Msg("bridge is ready") })
	return nil
}
