// Package expr is the language of the rules: a subset of PostgreSQL's
// expressions with PostgreSQL's exact meaning.
//
// The rule of the package: what Compile accepts evaluates to what PostgreSQL 14
// or later yields for the same row, in a session with the source's time zone,
// datestyle ISO, intervalstyle postgres and extra_float_digits 3. What cannot
// be matched is refused by Compile, by name, with a hint. There is never a
// wrong value: where only the row tells, evaluation fails with an EvalError
// instead. That is so for a date or time cast from text that is not in ISO
// form, money in another locale than C, rounding to more than 2000 digits, age
// of an infinite timestamp, jsonb's null cast to a scalar, hexadecimal numbers
// in text, an enum label added or renamed since, and a text of more than 64 MiB made by
// repeat, lpad or rpad.
//
// Names and operators are resolved as PostgreSQL does, on a copy of the part of
// its catalogue that matters (catalog.txt), so that literals, promotions and
// ambiguities come out alike. Results differ from PostgreSQL's in nothing but
// the deliberate: now() and its kin are the change's commit time, a constant
// part that fails is an error of Compile, and a large value that the server did
// not send is neither a value nor null (UnknownError).
//
// Operators and functions that the database's owner added are not seen.
//
// An Expr is immutable and may be shared. A Machine evaluates expressions over
// one change at a time; it belongs to one goroutine and in steady state does
// not allocate. Errors never hold row data.
package expr
