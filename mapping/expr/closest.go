package expr

import (
	"fmt"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// otherNames are what functions of other databases, and words for masks, are called here.
var otherNames = map[string]string{
	"isnull": "coalesce", "ifnull": "coalesce", "nvl": "coalesce", "iif": "case when ... then ... else ... end", "if": "case when ... then ... else ... end", "decode": "case ... when ... then ... end",
	"len": "length", "ucase": "upper", "lcase": "lower", "charindex": "position", "instr": "position", "datepart": "date_part",
	"getdate": "now", "sysdate": "now", "sysdatetime": "now", "curdate": "current_date", "newid": "gen_random_uuid",
	"mask_card": "last4", "mask_cartao": "last4", "mask_telefone": "mask_phone", "mask_celular": "mask_phone", "mask_fone": "mask_phone", "mask_mail": "mask_email",
}

// ClosestFunction is the function that a person most likely meant, of some names and of
// the language's own; "" when none is near. A name of a few letters is near to many: of
// these only the same letters in another order, or one more or less, are meant.
func ClosestFunction(written string, names []string) string {
	written = strings.ToLower(written)
	if other := otherNames[written]; other != "" {
		return other
	}
	if len(written) > 63 { // longer than PostgreSQL's names, and long to compare
		return ""
	}
	names = append(slices.Clone(names), append(maskNames(), "changed", "became")...)
	near := strictyaml.Nearest(written, names)
	switch {
	case len(written) > 4 && strings.HasPrefix(written, "mask_") != strings.HasPrefix(near, "mask_"):
		return "" // whoever wants a mask is not helped by something else
	case len(written) > 4 || near == written:
		if near == "" {
			near = strictyaml.Closest(written, names)
		}
		return near
	case near != "" && (len(near) != len(written) || sorted(near) == sorted(written)):
		return near
	}
	return ""
}

func sorted(s string) string { return string(slices.Sorted(slices.Values([]byte(s)))) }

// maskHint is the call of a mask for a column that is no text: numbers have lost the zeros
// that they began with.
func maskHint(n *call, t *cdc.Type) string {
	written := "x"
	if column, ok := n.args[0].(*columnRef); ok {
		parts := make([]string, len(column.path))
		for i, id := range column.path {
			parts[i] = quoteIdent(id)
		}
		written = strings.Join(parts, ".")
	}
	text := written + "::text"
	digits := map[string]int{"mask_cpf": 11, "mask_cnpj": 14}[n.name.text]
	switch t.Base().OID {
	case oidInt2, oidInt4, oidInt8, oidNumeric:
		if digits > 0 {
			text = fmt.Sprintf("lpad(%s, %d, '0')", text, digits)
		}
	}
	more := ""
	if len(n.args) > 1 {
		more = ", 'name of a secret'"
		if secret, ok := n.args[1].(*literal); ok && secret.kind == litString {
			more = fmt.Sprintf(", '%s'", strings.ReplaceAll(secret.text, "'", "''"))
		}
	}
	return fmt.Sprintf("write %s(%s%s)", n.name.text, text, more)
}
