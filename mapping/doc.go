// Package mapping turns row changes into events by rules written in SQL
// expressions.
//
// Parse reads rule files and needs no database. Rules.Bind checks every name and
// expression against the source's catalogue and returns a Ruleset, immutable and
// safe for any number of goroutines. A Mapper, one per goroutine, applies it to
// the changes of the stream. Parse and Bind report all mistakes of all files
// together, each with file, line, column and a hint. A reload is Parse and Bind
// again and then Mapper.Swap, all or nothing.
//
// # What a rule fires on
//
// A rule fires for a change of its table by one of its operations, when watch
// and when let it. The operations are checked like those of a trigger: naming
// old in a rule for inserts, or new in one for deletes, is an error. A bare
// column is that of the new row, or of the old one on delete.
//
// watch holds back updates only: one that changed none of the columns, or with all no
// column that the stream has. Changed
// means IS DISTINCT FROM; for a type without equality (json, xml, point) the
// text forms differ. An extension's type with an equality of its own is a mistake
// here, in collapse and as key; citext is equal in any case. A large value that the update did not touch has not
// changed. Inserts and deletes pass.
//
// # What an event holds
//
// data and columns name all that is sent, columns first; there is no default.
// A leaf whose value the server did not send (a column outside the replica
// identity, or a large value that was not touched) is left out and its dotted
// path is named in Unchanged; inside a list the whole outermost list is. It is
// never null.
//
// With on_error: null a leaf whose expression fails for the row's values is null, and
// named in Errors.
//
// With previous, an update's event also shows what it showed before: every leaf
// that depends on the row and names no old value itself is computed on the old
// row, and is in Previous where its JSON differs. Previous is nil on insert and
// {} when nothing that is shown has changed.
//
// A null tenant is no tenant. The ordering key defaults to the columns of the
// primary key, joined by commas, also where key is null; a table without one
// has the empty key. char(n) is without its padding in both. now() is the
// commit timestamp, so that a replay gives the same event.
//
// Columns in privacy.deny cannot be named in data, columns, key or tenant. They
// can in when and watch, which decide and do not show; a parked row is without them.
// A lookup must not read them anywhere, nor through a view, nor take them as an
// argument: it must be one that a role without SELECT on them could run.
//
// Several rules may make one event. Its group, title and description are the
// event's: two different ones are a mistake.
//
// # What a rule looks up
//
// A lookup is a query over columns of the change. The payload, the key and the
// tenant may show the row that it finds. The server prepares it when rules are
// bound, read-only. A change that needs one becomes pending, and so do all events
// after it, because positions must rise. Mapper.Resolve waits until the
// transactions of what is pending are visible to queries, runs each query once for
// all of it, and gives everything to the sink in order. So a lookup never sees a
// state from before its own commit. It may see a later one, and a replay shows the
// state at the time of the replay. Without cache every row is read again.
//
// Lookups run in a closed room: their search_path is PostgreSQL's schema and those
// of the database's search_path in which no untrusted role may create. Tables and
// types of the others are found when rules are bound; functions and operators there
// are a mistake.
//
// No row is a row of nulls. More than one row, and an error of the query for one
// change's values, park that change. While a query is not answered, everything
// waits: an event is late rather than sent without its values. A query that no
// longer fits its tables is a SchemaError, from Resolve.
//
// # What the source evaluates
//
// An expression that the language lacks, and PostgreSQL accepts, is delegated: the source
// evaluates it, with the values of the row at their types, as if it were a lookup, and all
// that is said of lookups is true of it. Those of a payload, key and tenant are one query
// for what is pending, those of a condition another. The conjuncts of when that can be
// decided at the change are decided first; what the others, and those that name lookups,
// leave false or null is no event. now() and the functions of this package are evaluated
// here and given to the query. Volatile functions are refused. In a group of collapse the
// last row for which a rule fires must be known at the commit, so that when is decided here.
//
// # Rules about transactions
//
// A rule with collapse, children or root_only waits for the commit and is applied
// to the net change of each row, as identified by its primary key. An insert and
// updates are an insert, a delete and an insert an update; an insert and a delete
// are nothing, and so is an update to the same values. A changed primary key is a
// delete and an insert. A TRUNCATE undoes what the transaction had done before.
//
// collapse by other columns than the primary key makes one event of the rows with
// the same key for which the rule fires: that of the last one. Rows with a null
// key are not grouped. A change of children is an update of their parent, which
// watch lets pass; a parent that was also inserted or deleted is only that. The
// row of a parent that the transaction did not touch is read from the source after
// the commit: if it does not exist, another transaction has deleted it and makes
// that event. root_only is silent for a deleted row whose parent is deleted in the
// transaction, whatever the order.
//
// Events of these rules come behind those of the transaction's changes. Their
// ordinal is the number of all its changes plus that of the row's last change
// (twice the number for a key that was given up, three times for a parent that
// lost a child), and N is the rule's number, without Ruleset.Number that among the
// rules of this kind.
// What waits is in memory up to WithTransactionMemory, and then in a temporary
// file without a name, sorted and merged at the commit.
//
// # How it fails
//
// What cannot be computed is parked, never dropped and never guessed: a run-time
// error of an expression, or a condition, key or tenant (or the old row for
// watch and previous) that depends on a value that was not sent. Other rules
// continue. When a column that a rule uses no longer exists or has another type,
// that is a SchemaError: under the policy Stop, Map returns it at the first change
// that the rule is for; under Park those changes are parked until rules are loaded
// that fit. The Mapper judges by the stream's own description of the table, which
// in a backlog is that of its time. New columns, other lengths of the same type, and
// types that only hold more, are fine; and so is any other type in a change that
// is older than the rules, if they can be compiled to it.
//
// A partition that sends less of old rows than its table (cdc.Relation.Weaker)
// makes the null old values of all partitions unknown, and so parks what depends
// on them. For a label that the relation's enum does not have, or a composite value
// with another number of fields, Map asks once for the types to be read again
// (cdc.ErrStaleTypes); if it still does not fit, changes are parked where a rule
// compares or shows it.
//
// Errors and reasons never hold row data.
//
// WithKeptChanges has a parked change kept whole, with the relation that describes it. A
// Redriver applies the rules of another time to it: the event has the position and the
// number that it would have had, its lookups are read as they are then, and what a rule of
// whole transactions would have put together with other rows is an event of its own.
package mapping
