// Package pgtext knows the text forms of PostgreSQL's types.
package pgtext
