// Package config reads gancho.yaml: what the bridge connects to, which rule
// files it runs, and which endpoints receive the events.
//
// Load reports everything that is wrong with the file at once, each mistake
// with file, line, column and what to write instead; a Config is returned only
// if there is none, with every default filled in. Nothing is connected to:
// whether the databases answer is found out by those who use them.
//
// What must not be printed is a Secret. Connection strings are secrets too.
//
// The other packages do not know this one: cmd hands on plain options.
package config
