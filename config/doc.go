// Package config reads gancho.yaml: what the bridge connects to, which rule
// files it runs, and which endpoints receive the events.
//
// Load reports everything that is wrong with the file together, each mistake
// with file, line, column and what to write instead; a Config is returned only
// if there is none, with every default filled in. It connects to nothing:
// whether the databases answer is found out by those who use them.
//
// What must not be printed is a Secret. Connection strings are secrets too.
//
// Endpoints are defined, and decoded, by package endpoint. The other packages do
// not know config: cmd hands on plain options and endpoints.
package config
