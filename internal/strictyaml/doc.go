// Package strictyaml reads YAML files that people write, and reports everything
// that is wrong with one together.
//
// A Document is one parsed file. It is read through Value, whose methods never
// fail: they record an Error with file, line and column in the document and
// return a zero value, so that one pass finds every mistake. The caller checks
// Document.Errors at the end; what was read is usable only if there are none.
// Error is the one type of a mistake with a place in a file, for every package
// that reads such files.
//
// What YAML allows and people do not expect is refused: unknown and duplicate
// keys, yes/no booleans, octal numbers, values left empty, several documents in
// one file. Scalars are read as they are written: 0777 is the text "0777".
// Anchors, aliases and merge keys (<<) work; an alias that contains itself, or
// a file that grows beyond a bound by its aliases, is an error.
//
// A Document and its Values belong to one goroutine.
package strictyaml
