// Package language has what Gancho says to people in Portuguese and in English: texts by key, numbers, sizes, times.
//
// pt-BR.yaml and en.yaml have equal keys, each one line: key: text. A text has its values as {name}; the texts of a
// number are two, key.one and key.other. A test compares keys and placeholders, and holds both against the sources: what
// is used exists, and what exists is used. A key that is made at run time has a prefix that Word is called with.
//
// The texts of the command line, those with cli., are found by their English text, see [Language.Translate]: what a command says is
// written where it is said. Logs, JSON and webhooks are for machines, and are in English in any language.
//
// Nothing here fails: a key that does not exist is shown as it is, so that whoever sees it can say which one it was.
package language
