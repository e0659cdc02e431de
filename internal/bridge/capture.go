package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/mapping"
)

// capture is the half that reads the source and fills the queues. It is the
// reader's handler.
type capture struct {
	*bridge
	reader *cdc.Reader
	stage  *stage
	mapper *mapping.Mapper
	lookup *mapping.Source
	// checked is that of prepare, which knows what rules may no longer read.
	checked *mapping.Source
	// mapped is the newest position before which everything has been given to the
	// mapper: it counts as reached when nothing is pending there.
	mapped cdc.LSN
	// take is the queue's Take, resolve and complete are the mapper's Resolve and Commit, until
	// capture ends.
	take     func() error
	resolve  func() error
	complete func(*cdc.Transaction) error
	// next is a ruleset that is used from the next transaction on.
	next      atomic.Pointer[mapping.Ruleset]
	ready     sync.Once
	confirmed chan struct{} // capacity 1: the confirmed position has risen
	// publications are those that the reader subscribes to.
	publications []string
	tables       *tables
	// identity is the source's that the rules are bound to.
	identity cdc.Identity
	// verdicts are what became of the newest changes.
	verdicts *verdicts
	// whole: the verdicts are those of the visit before, and nothing is missing in between. The stream's begin uses it up.
	whole bool
	reads *reads
	// takes and restart are reads' message and recorded until capture ends.
	takes   func(*cdc.Transaction, cdc.Message) error
	restart func() ([]uint32, error)
	from    cdc.LSN // the slot's confirmed position at the start
	// ruled are the tables of the rules.
	ruled atomic.Pointer[[]cdc.Ruled]
	// bound are the rules as they were bound last.
	bound atomic.Pointer[mapping.Ruleset]
	// timersTrouble is why the timers of a rule cannot be fired; nil: all can.
	timersTrouble atomic.Pointer[stuckTimersError]
	// typesBound is the version of the reader's types that the rules were bound to at least.
	typesBound atomic.Uint64

	lagMu sync.Mutex
	lag   lagClock

	// prepared is the source as it was prepared.
	prepared *cdc.Source
	// target is where the WAL ended when the source was prepared.
	target cdc.LSN
	// left is called when nothing is read any more and what was read may not be durable yet; nil: nobody asks.
	left func()
	// advances reports whether the last position is to be confirmed although nothing is read any more; nil: it is.
	advances func() bool
}

// capturing reports whether this process captures, now: one that waits for the slot, or has
// lost it to another process, does not.
func (b *bridge) capturing() bool {
	if b.member != nil {
		c := b.member.capture.Load()
		return c != nil && c.reader.Streaming()
	}
	return b.capture != nil && b.capture.reader.Streaming()
}

// run captures until the context ends or a person has to act. It then
// waits until what was appended is durable, and confirms it.
func (c *capture) run(ctx context.Context) error {
	filling, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	filled := make(chan error, 1)
	reading, failed := context.WithCancel(ctx)
	defer failed()
	// The reader waits for its handler, which may wait for room.
	defer context.AfterFunc(reading, c.stage.close)()
	sink := waitingSink{c.stage}
	c.take = func() error {
		_, err := waitFor(reading, c.Log, "redis", func() (struct{}, error) {
			err := c.queue.Take(reading)
			if err == nil {
				err = c.queue.BeginTally(reading)
			}
			return struct{}{}, err
		})
		return err
	}
	c.resolve = func() error { return c.mapper.Resolve(reading, sink) }
	c.complete = func(tx *cdc.Transaction) error { return c.mapper.Commit(reading, tx, sink) }
	c.takes = func(tx *cdc.Transaction, m cdc.Message) error { return c.reads.message(reading, tx, m) }
	c.restart = func() ([]uint32, error) { return c.reads.known(reading) }
	defer c.lookup.Close(ctx)
	go func() {
		defer failed() // reading on would fill memory
		filled <- c.fill(filling)
	}()
	err := c.reader.Run(reading, c)
	if c.left != nil {
		c.left()
	}
	if filling.Err() == nil && len(filled) == 0 && !elsewhere(err) {
		c.drain(filling)
	}
	stop()
	err = errors.Join(err, <-filled)
	if ctx.Err() != nil {
		return err
	}
	return c.refusalOf(context.WithoutCancel(ctx), err)
}

// fill appends what is mapped and confirms what is durable, over restarts of
// Redis, until the context ends.
func (c *capture) fill(ctx context.Context) error {
	for {
		group, ctx2 := errgroup.WithContext(ctx)
		group.Go(func() error { return c.stage.run(ctx2) })
		group.Go(func() error { return c.queue.RunDurable(ctx2, c.confirm) })
		err := group.Wait()
		if errors.Is(err, queue.ErrFenced) {
			c.standBy()
			continue
		}
		if !errors.Is(err, queue.ErrRestarted) {
			return err
		}
		if err := c.rewind(ctx, err); err != nil {
			return err
		}
	}
}

// confirm confirms to the source what is durable.
func (c *capture) confirm(lsn uint64) {
	c.lagMu.Lock()
	c.lag.confirm(cdc.LSN(lsn))
	c.lagMu.Unlock()
	c.reader.Confirm(cdc.LSN(lsn))
	signal(c.confirmed)
}

// waiting returns what capture waits for: the source, what rules read of it, or
// Redis; nil when it does not wait.
func (c *capture) waiting() error {
	for _, err := range []error{c.reader.Waiting(), c.lookup.Waiting(), c.stage.waits()} {
		if err != nil {
			return fmt.Errorf("capture waits: %w", err)
		}
	}
	return nil
}

// trouble returns why capture does not do all that it should, nil when it does: it
// waits, a rule may not read what it needs, or a table has left the stream.
func (c *capture) trouble() error {
	if err := cmp.Or(c.waiting(), c.lookup.Denied()); err != nil {
		return err
	}
	if gap := c.health.gap.Load(); gap != nil {
		return errors.New(*gap)
	}
	if stuck := c.timersTrouble.Load(); stuck != nil {
		return stuck
	}
	return nil
}

// privilegesTimeout bounds one look at privileges, after which the tables are looked at.
const privilegesTimeout = 15 * time.Second

// checkPrivileges looks whether what rules may not read was granted meanwhile: the
// next change that needs it may be far.
func (c *capture) checkPrivileges(ctx context.Context) {
	if c.lookup.Denied() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, privilegesTimeout)
	defer cancel()
	source := mapping.NewSource(c.LookupDSN, c.Source.Encoding, c.Log)
	defer source.Close(ctx)
	c.lookup.Recheck(ctx, c.bound.Load(), source)
	if c.lookup.Denied() == nil {
		c.Log.Info().Msg("the rules may read all that they need again")
	}
}

// lagAge is the age of the oldest transaction that is not confirmed.
func (c *capture) lagAge() time.Duration {
	c.lagMu.Lock()
	defer c.lagMu.Unlock()
	return c.lag.age(time.Now())
}
