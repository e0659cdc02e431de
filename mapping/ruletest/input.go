package ruletest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gancho/cdc"
	"gancho/internal/pgtext"
	"gancho/mapping/expr"
)

// inputs turn what a person writes into texts as the stream has them: the type's input
// and output.
type inputs struct {
	machine  *expr.Machine
	settings expr.Settings
	compiled map[inputKey]*expr.Expr // nil: the type's input is not known here
}

type inputKey struct {
	oid uint32
	mod int32
}

func newInputs(location *time.Location, order pgtext.DateOrder) *inputs {
	s := expr.Settings{Location: location, Collation: "C", CType: "C", Encoding: "UTF8", DateOrder: order}
	return &inputs{expr.NewMachine(s), s, map[inputKey]*expr.Expr{}}
}

var text = expr.Builtin("text")

// read returns the text of a value of the type.
func (in *inputs) read(written string, t *cdc.Type, mod int32) ([]byte, error) {
	if t.Kind == cdc.KindDomain && t.Elem != nil {
		if mod < 0 {
			mod = t.TypeMod
		}
		return in.read(written, t.Elem, mod)
	}
	if t.Kind == cdc.KindEnum {
		if !slices.Contains(t.Labels, written) {
			return nil, fmt.Errorf("%q is none of its labels: %s", written, strings.Join(t.Labels, ", "))
		}
		return []byte(written), nil
	}
	key := inputKey{t.OID, mod}
	e, known := in.compiled[key]
	if !known {
		e = in.compile(t, mod)
		in.compiled[key] = e
	}
	if e == nil {
		return []byte(written), nil // of an extension, a composite, an address: as it is
	}
	if length := int(mod) - 4; mod >= 0 && (t.Name == "varchar" || t.Name == "bpchar") { // a cast would cut it
		if trimmed := strings.TrimRight(written, " "); utf8.RuneCountInString(trimmed) > length {
			return nil, fmt.Errorf("%q has more than %d characters", written, length)
		}
	}
	in.machine.Load(&cdc.Change{Op: cdc.Insert, Tx: &cdc.Transaction{}, Relation: inputRelation, New: []cdc.Datum{{State: cdc.Present, Text: []byte(written)}}})
	out, _, err := in.machine.AppendText(nil, e)
	if failed, ok := errors.AsType[*expr.EvalError](err); ok {
		return nil, fmt.Errorf("%q is not a value of %s: %s", written, typeText(t, mod), failed.Message)
	}
	if err != nil {
		return nil, err
	}
	if length := int(mod) - 4; mod >= 0 && t.Name == "bpchar" {
		out = append(out, strings.Repeat(" ", max(0, length-utf8.RuneCount(out)))...)
	}
	return out, nil
}

// inputRelation has one column of text, v.
var inputRelation = &cdc.Relation{OID: 1, Schema: "pg_temp", Name: "input", Columns: []cdc.Column{{Name: "v", Type: text, TypeMod: -1}}}

// compile compiles the type's input: a cast from text is that.
func (in *inputs) compile(t *cdc.Type, mod int32) *expr.Expr {
	if t.Schema != "pg_catalog" {
		return nil
	}
	scope := &expr.Scope{Relation: inputRelation, New: true, Insert: true, Settings: in.settings}
	cast := "v::" + typeText(t, mod)
	if t.Name == "timestamptz" {
		cast = "(" + cast + " at time zone 'UTC')::text || '+00'" // as the stream has it
	}
	e, err := expr.Compile(cast, scope)
	if err != nil {
		return nil
	}
	return e
}

// typeText is a type as SQL writes it.
func typeText(t *cdc.Type, mod int32) string {
	if mod < 0 {
		return t.Name
	}
	switch t.Name {
	case "numeric":
		return fmt.Sprintf("numeric(%d,%d)", (mod-4)>>16, (mod-4)&0x7ff)
	case "varchar", "bpchar":
		return fmt.Sprintf("%s(%d)", t.Name, mod-4)
	case "timestamp", "time":
		return fmt.Sprintf("%s(%d)", t.Name, mod)
	case "timestamptz":
		return fmt.Sprintf("timestamp(%d) with time zone", mod)
	}
	return t.Name
}

// moment reads a time as timestamptz does.
func (in *inputs) moment(written string) (time.Time, error) {
	at, err := in.read(written, expr.Builtin("timestamptz"), -1)
	if err != nil {
		return time.Time{}, err
	}
	return time.Parse("2006-01-02 15:04:05.999999-07", string(at))
}
