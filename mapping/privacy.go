package mapping

import (
	"fmt"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// denied is a column that no payload may hold.
type denied struct {
	text   string
	table  cdc.Name
	column string
}

func (d denied) mistake(hint, format string, args ...any) *strictyaml.Error {
	return &strictyaml.Error{File: "privacy.deny: " + d.text, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// hiddenColumns are the columns that a mask or a hash hides, and that no
// payload, key or tenant shows as they are. A condition that names one does not
// show it.
func hiddenColumns(uses []use) map[string]bool {
	hidden := map[string]bool{}
	for _, u := range uses {
		if u.Hidden {
			hidden[u.Name] = true
		}
	}
	for _, u := range uses {
		if u.shown && !u.Hidden {
			delete(hidden, u.Name)
		}
	}
	return hidden
}

// parseDenied reads table.column or schema.table.column.
func parseDenied(s string) (denied, *strictyaml.Error) {
	d := denied{text: s}
	tokens, _ := expr.Tokens(s) // ParseName refuses a quote that does not end
	last := -1
	for _, t := range tokens {
		if t.Is(".") {
			last = t.Start
		}
	}
	if last < 0 {
		return d, d.mistake("write table.column", "the table is missing")
	}
	column, err := cdc.ParseName(s[last+1:])
	if err != nil {
		return d, d.mistake("", "%v", err)
	}
	table, err := cdc.ParseName(strings.TrimSpace(s[:last]))
	if err != nil {
		return d, d.mistake("", "%v", err)
	}
	d.table, d.column = table, column.Name
	return d, nil
}
