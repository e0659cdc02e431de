// Package expr is the language of the rules: a subset of PostgreSQL's
// expressions with PostgreSQL's exact meaning.
//
// The package guarantees: what Compile accepts evaluates to what PostgreSQL 14 or
// later yields for the same row, in a session with the source's time zone,
// datestyle ISO, intervalstyle postgres and extra_float_digits 3. Compile refuses
// everything else by name, with a hint; package mapping has PostgreSQL evaluate what is only
// Unsupported. A result is never wrong: where it depends
// on the row whether the meaning is known, evaluation fails with an EvalError.
// Those cases are a date or time cast from text in a form that only the server can read (today,
// names of time zones, days of the year), money in another form than that of the C locale,
// rounding to more than 2000 digits, age of an infinite timestamp, quarters of a negative
// interval, jsonb's null cast to a scalar, hexadecimal numbers in text, an enum label added or
// renamed since, and a letter whose other case depends on the server's version of Unicode.
// Intervals are read as 15 and later read them: 14 refuses fields beyond 32 bits.
//
// Evaluation has a budget for each change: 256 MiB of memory, results included, and
// the work of a few seconds for what can take more than the size of its operands,
// such as one jsonb array's elements times another's. What exceeds it is an EvalError
// too (54000). All else takes time in proportion to its operands, except the products
// and quotients of numerics of up to 131,072 digits: up to 50 ms, and PostgreSQL up to
// seconds. Of a large array's text only what is asked for is read: its length and single
// elements are found by the delimiters; any, all, = and the like read about 50 ns for
// each element, and stop at the first that decides. No expression takes more than 20
// times PostgreSQL's processor time (TestBound).
//
// Types of extensions that are text (a cast without a function says so, and no
// operator = of their own) are used as text; citext follows its own rules.
//
// Names and operators are resolved as in PostgreSQL, on a copy of the relevant
// part of its catalogue (catalog.txt), so that literals, promotions and
// ambiguities are treated alike. Three differences are deliberate: now() and the
// like are the change's commit time, a constant part that fails is an error of
// Compile, and a large value that the server did not send is neither a value nor
// null (UnknownError).
//
// Operators and functions that users have added to the database are not known here.
//
// An Expr is immutable and may be shared. A Machine evaluates expressions over
// one change at a time; it belongs to one goroutine and in steady state does
// not allocate. Errors never hold row data.
package expr
