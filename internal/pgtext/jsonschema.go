package pgtext

import (
	"encoding/json"

	"gancho/cdc"
	"gancho/internal/jsonschema"
)

// JSONSchema returns the schema of what AppendJSON writes for the values of a type, but for
// null. wall is JSONOptions.Wall.
func JSONSchema(t *cdc.Type, typmod int32, wall bool) *jsonschema.Schema {
	for t.Kind == cdc.KindDomain && t.Elem != nil {
		if typmod < 0 {
			typmod = t.TypeMod
		}
		t = t.Elem
	}
	switch t.OID {
	case oidInt2, oidInt4, oidInt8:
		return integerSchema(t.OID)
	case oidFloat4, oidFloat8:
		return jsonschema.Any(&jsonschema.Schema{Type: jsonschema.Types{jsonschema.Number}}, texts("NaN", "Infinity", "-Infinity"))
	case oidNumeric:
		special := texts("NaN", "Infinity", "-Infinity")
		if typmod >= 0 { // no infinity has a precision
			special = texts("NaN")
		}
		return jsonschema.Any(&jsonschema.Schema{Type: jsonschema.Types{jsonschema.Number}}, special)
	case oidBool:
		return &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Boolean}}
	case oidTimestamp:
		if wall {
			return &jsonschema.Schema{Type: stringType(), Pattern: wallPattern, Description: "local time, without an offset"}
		}
		return &jsonschema.Schema{Type: stringType(), Format: "date-time"}
	case oidTimestampTZ:
		return &jsonschema.Schema{Type: stringType(), Format: "date-time"}
	case oidJSON, oidJSONB:
		return &jsonschema.Schema{}
	case oidBytea:
		return &jsonschema.Schema{Type: stringType(), ContentEncoding: "base64"}
	case oidDate:
		return &jsonschema.Schema{Type: stringType(), Format: "date"}
	case oidUUID:
		return &jsonschema.Schema{Type: stringType(), Format: "uuid"}
	case oidBPChar, oidVarchar:
		out := &jsonschema.Schema{Type: stringType()}
		if typmod >= 4 {
			out.MaxLength = int(typmod) - 4
		}
		return out
	case oidInt2Vector, oidOIDVector:
		return &jsonschema.Schema{Type: stringType()}
	}
	switch {
	case t.Kind == cdc.KindEnum:
		return texts(t.Labels...)
	case t.Kind == cdc.KindArray && t.Elem != nil:
		return arraySchema(t, typmod, wall)
	case t.Kind == cdc.KindComposite:
		return compositeSchema(t, wall)
	case t.Kind == cdc.KindBase && t.Name == "hstore":
		return &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Object}, AdditionalProperties: &jsonschema.Schema{Type: jsonschema.Types{jsonschema.String, jsonschema.Null}}}
	}
	return &jsonschema.Schema{Type: stringType()}
}

const (
	oidDate    = 1082
	oidVarchar = 1043
	oidUUID    = 2950
)

// wallPattern is a time without an offset, as to_jsonb writes it.
const wallPattern = `^([0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?( BC)?|-?infinity)$`

func stringType() jsonschema.Types { return jsonschema.Types{jsonschema.String} }

// texts accepts some texts.
func texts(of ...string) *jsonschema.Schema {
	out := &jsonschema.Schema{Type: stringType()}
	for _, s := range of {
		out.Enum = append(out.Enum, jsonschema.Text(s))
	}
	return out
}

func integerSchema(oid uint32) *jsonschema.Schema {
	limits := map[uint32][2]json.Number{
		oidInt2: {"-32768", "32767"}, oidInt4: {"-2147483648", "2147483647"}, oidInt8: {"-9223372036854775808", "9223372036854775807"},
	}[oid]
	return &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Integer}, Minimum: limits[0], Maximum: limits[1]}
}

// arraySchema accepts nulls as elements, and arrays: the type of an array does not say how
// many dimensions its values have.
func arraySchema(t *cdc.Type, typmod int32, wall bool) *jsonschema.Schema {
	elem := JSONSchema(t.Elem, typmod, wall)
	return &jsonschema.Schema{
		Type:  jsonschema.Types{jsonschema.Array},
		Items: elem.Accepting(jsonschema.Null).Accepting(jsonschema.Array),
	}
}

func compositeSchema(t *cdc.Type, wall bool) *jsonschema.Schema {
	out := &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Object}}
	for _, f := range t.Fields {
		out.Properties = append(out.Properties, jsonschema.Property{Name: f.Name, Schema: JSONSchema(f.Type, -1, wall).Accepting(jsonschema.Null)})
		out.Required = append(out.Required, f.Name)
	}
	return out
}
