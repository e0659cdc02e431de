// Package mapping turns row changes into events by rules written in SQL expressions.
package mapping
