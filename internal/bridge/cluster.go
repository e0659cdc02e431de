package bridge

import (
	"context"
	"time"
)

// Sources are the databases that one process reads with the same rules: several of one
// cluster, or of several servers. What is said of them is in [Source]; the rest, such as the
// publication or the role that looks up, is as in Options.
type Sources struct {
	// List returns the sources as they are now: those of gancho.yaml, or of the cluster's
	// catalogue. It is called at the start, every minute and at every Reload. An error at
	// the start ends the bridge unless it passes; later the sources stay as they were.
	List func(ctx context.Context) ([]Source, error)
	// Cluster returns the DSN of any database of the cluster whose counters say which of the
	// sources were written to, as it is now. Nil: the sources are on different servers, and each
	// server is asked at the DSN of one of its sources.
	Cluster func() string
	// Streams is how many of them are read at once, each by a walsender; 0: DefaultStreams.
	Streams int
	// VisitEvery is how often a source is read up to its end whatever the counters say, so
	// that its slot holds no WAL; 0: DefaultVisitEvery.
	VisitEvery time.Duration
}

// Defaults of Sources.
const (
	DefaultStreams    = 8
	DefaultVisitEvery = time.Minute
)

// Source is one of several databases.
type Source struct {
	// Name is unique and does not change: [a-z0-9_-], up to 48 bytes. Tenants of the source's
	// events begin with it and a slash; those of events without one are the name.
	Name string
	// DSN is where it is read, LookupDSN where rules look up.
	DSN, LookupDSN string
	// Slot is its replication slot, unique in its cluster.
	Slot string
	// QueuePrefix begins the name of each of its keys in Redis; no other source, nor the
	// Prefix of Options.Queue, may have it.
	QueuePrefix string
}
