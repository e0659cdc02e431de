package mapping

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// qualifiedCall is the name of a function with its schema, at the beginning of a text.
var qualifiedCall = regexp.MustCompile(`^([\pL_][\pL\pN_$]*|"[^"]*")\s*\.\s*([\pL_][\pL\pN_$]*|"[^"]*")`)

// closestFunction is what to do about a function or an operator, at the beginning of the
// text, that does not exist, or not for such arguments.
func (b *binder) closestFunction(ctx context.Context, text string) (remedy, error) {
	written, schema := strings.Trim(calledName.FindString(text), `"`), ""
	if m := qualifiedCall.FindStringSubmatch(text); m != nil {
		schema, written = strings.Trim(m[1], `"`), strings.Trim(m[2], `"`)
	}
	if strings.ContainsAny(written[:min(1, len(written))], "-+*/<>=~!@#%^&|`?") {
		return words("cast one side, so that both have the same type: new.x::text, or y::integer"), nil
	}
	rows, _ := b.conn.Query(ctx, `
		select p.proname::text, n.nspname::text, p.oid::regprocedure::text, n.nspname = 'pg_catalog' or n.nspname = any(`+cdc.DatabasePath+`) from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
		where p.prokind in ('f', 'a') and p.prorettype <> 'trigger'::regtype and n.nspname <> 'information_schema' and n.nspname not like 'pg\_toast%'
			and (n.nspname <> 'pg_catalog' or p.proname not like 'pg\_%') order by 3`)
	type function struct {
		Name, Schema, Title string
		Found               bool
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[function])
	if err != nil {
		return remedy{}, fmt.Errorf("find function %s: %w", written, err)
	}
	var names, forms []string
	for _, f := range all {
		if schema != "" {
			f.Found = f.Schema == schema
		}
		if f.Found {
			names = append(names, f.Name)
		}
		if f.Found && strings.EqualFold(f.Name, written) && len(forms) < 4 {
			forms = append(forms, f.Title)
		}
	}
	if len(forms) > 0 {
		return words("cast the arguments to those of %s", strings.Join(forms, " or ")), nil
	}
	for _, f := range all {
		if schema == "" && strings.EqualFold(f.Name, written) {
			return b.elsewhere(ctx, cdc.Name{Schema: f.Schema, Name: f.Name}, text)
		}
	}
	if near := expr.ClosestFunction(written, names); near != "" {
		return words("did you mean %s?", near), nil
	}
	return remedy{}, nil
}
