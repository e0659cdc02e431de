// Package jsonschema has the part of JSON Schema 2020-12 that Gancho writes and reads back:
// of its events and of its files. It writes schemas in the order in which they are built,
// the same for equal ones, and does not validate: receivers and editors do.
// https://json-schema.org/draft/2020-12/json-schema-core
package jsonschema
