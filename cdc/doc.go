// Package cdc reads PostgreSQL's logical replication stream: slot, publication,
// connection, pgoutput decoding, relations, transactions and positions. It
// knows no rule and no queue.
//
// [Prepare] checks the database before anything runs: it finds (or, under
// [Options.Create], creates) the slot and the publications that the wanted tables
// need, and says in SQL what is missing. [Reader] then streams: it calls a handler
// with whole transactions in commit order, from one goroutine, until its context
// ends or an error is permanent. [Hazards] and [Remarks] say what publications do to
// the application and to other tools. [FaultOf] says what an error of PostgreSQL means.
// What the stream does not say, [CatalogWatch.Coverage] reads from the catalogue: that
// a table has left it, or a type was altered.
//
// # Guarantees
//
//   - Nothing committed is skipped. Only positions that [Reader.Confirm] was
//     given are confirmed to the server. After a lost connection, a restart of
//     the server or [Reader.Rewind] the stream starts again from the newest
//     confirmed position; changes after it are replayed, with the same [Position].
//   - What cannot be decoded stops the reader with a [DecodeError]. No change is
//     left out in silence.
//   - Values are exact: the session fixes every setting that shapes text output,
//     and reads it back, so nothing set for the database, the role, the server or
//     a pooler leaks into them.
//     A value that the server did not send is never shown as null, nor where
//     a partition's replica identity covers less than its table's. Where the
//     server cannot convert text, [Options.Encoding] does, and what is no text
//     is [Invalid].
//   - Memory is bounded: four chunks of 256 KiB, each larger only for a row that
//     does not fit.
//   - The source stays safe. No table is put into a publication that would make
//     PostgreSQL refuse the application's UPDATE or DELETE of it ([Hazards]), nothing is
//     altered unless [Options.Create] says so, and a server that wants to shut
//     down is not held up by a handler that is blocked. No commit waits for us: a
//     stream that would be a synchronous standby is not opened, or is closed.
//
// # Ownership
//
// A [Change] and its datums alias the reader's buffers; they are valid until
// the handler returns. A [Relation] and a [Type] are immutable and shared: a
// schema change gives a new pointer, an identical Relation message keeps the
// old one. While [Reader.Run] runs, one goroutine reads the socket, one writes
// to it, one watches for a server that shuts down while the handler is blocked,
// and the caller's own decodes and calls the handler. Run waits for all of them.
//
// # Failure
//
// After a lost connection, during a restart of the server, and while another
// process reads the slot, Run retries with a backoff of 100 ms to 10 s. Everything
// else ends it: a slot that does not exist or has lost WAL, missing privileges, another server behind
// the same address ([IdentityChangedError]), an undecodable message, and any
// error of the handler. Errors meant for people end with what to do.
//
// The protocol: https://www.postgresql.org/docs/current/protocol-replication.html
// and https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
package cdc
