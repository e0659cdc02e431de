package queue

import (
	"context"
)

// Owner is the handle of whoever has an endpoint's lease: what it reads, and
// writes under its claim, which is the fencing token. Its methods may be called
// concurrently.
type Owner struct {
	q               *Queue
	endpoint, claim string
}

// Generation counts the restarts of Redis that this process has noticed: what
// was read before it rose may have been lost since.
func (o *Owner) Generation() uint64 { return o.q.servers.generations.Load() }

// Load reads what the last owner has left: the endpoint's state, and the
// attempts of the events that have failed.
func (o *Owner) Load(ctx context.Context) (Condition, map[ID]Attempts, error) {
	s, err := o.q.loadCondition(ctx, o.endpoint)
	if err != nil {
		return Condition{}, nil, err
	}
	retries, err := o.q.loadRetries(ctx, o.endpoint)
	return s, retries, err
}

// Release gives the lease back, and wakes the other processes.
func (o *Owner) Release(ctx context.Context) error {
	keys := []string{o.q.leasesOf(o.endpoint), o.q.keys.fence(o.endpoint)}
	err := releaseScript.Run(ctx, o.q.client, keys, o.claim).Err()
	if err == nil {
		err = o.q.client.Publish(ctx, o.q.keys.wake(), WakeAll).Err()
	}
	return annotate(err, "release endpoint %q", o.endpoint)
}
