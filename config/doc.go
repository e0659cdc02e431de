// Package config reads gancho.yaml: what the bridge connects to, which rule
// files it runs, and which endpoints receive the events.
//
// Load reports everything that is wrong with the file together, each mistake with
// file, line, column and what to write instead. A Config is returned only without
// mistakes, with every default filled in. Load connects to nothing.
//
// What must not be printed is a Secret; connection strings are secrets too.
//
// Endpoints are defined, and decoded, by package endpoint. The other packages do
// not know config: cmd hands on plain options and endpoints.
package config
