package config

import "strings"

// ReservedHeaders are the headers that an endpoint may not set.
func ReservedHeaders() []string { return strings.Fields(reservedHeaders) }
