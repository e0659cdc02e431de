// Package endpoint defines an endpoint: a receiver of events and how it is to be
// treated, with its defaults, its bounds and its secrets. Everything that knows
// an endpoint, from gancho.yaml to the database, uses this definition.
package endpoint
