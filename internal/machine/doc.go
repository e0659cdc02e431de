// Package machine says which hosts are this machine, by their text alone: no name is looked up.
package machine
