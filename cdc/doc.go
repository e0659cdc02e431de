// Package cdc reads PostgreSQL's logical replication stream: slot, publication,
// connection, pgoutput decoding, relations, transactions and positions.
package cdc
