package cdc

// Handler receives what the reader reads. Its methods are called from one
// goroutine, in the order of the stream, and may block: the reader then stops
// reading and keeps the connection alive. An error of any method ends
// [Reader.Run] with it.
type Handler interface {
	// Begin opens a transaction. The pointer stays the same until its Commit;
	// End is not set yet.
	Begin(*Transaction) error
	// Change is one row change of the open transaction. When it returns
	// [ErrStaleTypes], its relation's types are read from the catalogue and
	// Change is called again for the same change.
	Change(*Change) error
	// Commit closes the transaction. Once all it led to is durable, its End may
	// be confirmed.
	Commit(*Transaction) error
	// Keepalive says that everything that commits before lsn has been handed
	// over. With nothing in flight lsn may be confirmed, which lets an idle
	// database hold no WAL. Never called within a transaction.
	Keepalive(lsn LSN) error
	// Flush says that nothing more can be read right now: send what was held back
	// for a larger batch. Never called within a transaction.
	Flush() error
	// Reset says that the stream starts (again) from the confirmed position:
	// discard an open transaction; changes that came before may be replayed.
	Reset() error
}
