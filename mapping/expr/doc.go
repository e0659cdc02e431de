// Package expr is the language of the rules: a subset of PostgreSQL's
// expressions with PostgreSQL's exact meaning.
//
// The package guarantees: what Compile accepts evaluates to what PostgreSQL 14 or
// later yields for the same row, in a session with the source's time zone,
// datestyle ISO, intervalstyle postgres and extra_float_digits 3. Compile refuses
// everything else by name, with a hint. A result is never wrong: where it depends
// on the row whether the meaning is known, evaluation fails with an EvalError.
// Those cases are a date or time cast from text that is not in ISO form, money in
// another locale than C, rounding to more than 2000 digits, age of an infinite
// timestamp, jsonb's null cast to a scalar, hexadecimal numbers in text, an enum
// label added or renamed since, and a text of more than 64 MiB as the result of
// repeat, lpad or rpad.
//
// Names and operators are resolved as in PostgreSQL, on a copy of the relevant
// part of its catalogue (catalog.txt), so that literals, promotions and
// ambiguities are treated alike. Three differences are deliberate: now() and the
// like are the change's commit time, a constant part that fails is an error of
// Compile, and a large value that the server did not send is neither a value nor
// null (UnknownError).
//
// Operators and functions that users have added to the database are ignored.
//
// An Expr is immutable and may be shared. A Machine evaluates expressions over
// one change at a time; it belongs to one goroutine and in steady state does
// not allocate. Errors never hold row data.
package expr
