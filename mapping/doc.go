// Package mapping turns row changes into events by rules written in SQL
// expressions.
//
// The way of a rule: Parse reads the files and needs no database; Rules.Bind
// checks every name and expression against the source's catalogue and makes a
// Ruleset, immutable and safe for any number of goroutines; a Mapper, one per
// goroutine, applies it to the changes of the stream. Both stages report all
// mistakes of all files at once, each with file, line, column and a hint; a
// reload is Parse and Bind again and then Mapper.Swap, all or nothing.
//
// # What a rule fires on
//
// A rule fires for a change of its table by one of its operations, when watch
// and when let it. The operations are checked like those of a trigger: naming
// old in a rule for inserts, or new in one for deletes, is an error. A bare
// column is that of the new row, or of the old one on delete.
//
// watch holds back updates only: one that changed none of the columns. Changed
// means IS DISTINCT FROM; for a type without equality (json, xml, point) the
// text forms differ. A large value that the update did not touch has not
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
// can in when and watch, which decide and do not show; where such a change is
// parked, the parked row is without them.
//
// # What a rule looks up
//
// A lookup is a query over columns of the change, whose row the payload, the
// key and the tenant may show. The server prepares it when rules are bound,
// read-only. A change that needs one becomes pending, and all events after it
// wait behind it, because positions rise. Mapper.Resolve waits until the
// transactions of what is pending are visible to queries, runs each query once
// for all of it, and gives everything on in order. A lookup so never sees a
// state from before its own commit; it may see a later one, and a replay shows
// that of its time. Without cache every row is read anew.
//
// No row is a row of nulls. More than one row, and an error of the query for
// one change's values, park that change. A query that is not answered holds
// everything until it is: an event is late rather than sent without. One that
// no longer fits its tables is a SchemaError, from Resolve.
//
// # Rules about transactions
//
// A rule with collapse, children or root_only waits for the commit and is applied
// to what came of each row, told apart by the primary key: an insert and updates
// are an insert, a delete and an insert an update, an insert and a delete nothing,
// and so is a row that is what it was. A changed primary key is a delete and an
// insert. A TRUNCATE takes away what the transaction had done before.
//
// collapse by other than the primary key makes one event of the rows with one
// key that the rule fires for: that of the last one. A null key belongs to no
// other. children count as an update of their parent, which watch lets pass; a
// parent that was inserted or deleted as well is only that, and the row of one
// that was not touched is read from the source after the commit: if it is gone,
// its deletion is an event of another transaction. root_only is silent for a
// deleted row whose parent is deleted in the transaction, whatever the order.
//
// Events of these rules come behind those of the transaction's changes. Their
// ordinal is the number of all its changes plus that of the row's last change
// (twice the number for a key that was given up, three times for a parent that
// lost a child), and N is the rule's number among the rules of this kind.
// What waits is in memory up to WithTransactionMemory, and then in a temporary
// file without a name, sorted and merged at the commit.
//
// # How it fails
//
// What cannot be computed is parked, never dropped and never guessed: a run-time
// error of an expression, or a condition, key or tenant (or the old row for
// watch and previous) that depends on a value that was not sent. Other rules go
// on. A column that a rule uses and that is gone or has changed its type is a
// SchemaError: under the policy Stop, Map returns it at the first change that
// the rule is for; under Park those changes are parked until rules are loaded
// that fit. The Mapper judges by the stream's own description of the table,
// which for a backlog is that of its time. New columns, and other lengths of
// the same type, are fine.
//
// A partition that sends less of old rows than its table (cdc.Relation.Weaker)
// makes the null old values of all partitions unknown, and so parks what depends
// on them. A label that the relation's enum does not have makes Map ask for the
// types anew (cdc.ErrStaleTypes); one that is unknown even then is parked where
// a rule compares it.
//
// Errors and reasons never hold row data.
package mapping
