package mapping_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/mapping"
)

// TestZoneRules: a time zone whose rules are not the server's is refused.
func TestZoneRules(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	const rules = `
rules:
  - event: cliente.novo
    table: clientes
    on: insert
    data: {aqui: "to_char(alterado_em, 'HH24')", la: "to_char(alterado_em at time zone 'Africa/Casablanca', 'HH24')"}
`
	for _, name := range []string{"America/Sao_Paulo", "Africa/Casablanca", "Europe/Lisbon", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "CET", "America/Argentina/San_Luis"} {
		loc, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse(t, mapping.Options{Location: loc}, rules).Bind(context.Background(), conn); err != nil {
			t.Errorf("%s: %v, although the server reads the same files", name, err)
		}
	}
	for name, want := range map[string]string{
		"America/Sao_Paulo": "source.timezone: time zone America/Sao_Paulo is UTC-02:00:00 here and UTC-03:00:00 in PostgreSQL at 1970-01-01T00:00:00Z; bring the tz databases to one version",
		"America/Gancho":    `bind rules: compare time zone America/Gancho with the server's: invalid value for parameter "TimeZone": "America/Gancho"`,
	} {
		_, err := parse(t, mapping.Options{Location: time.FixedZone(name, -2*3600)}, rules).Bind(context.Background(), conn)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// TestDateOrder: the order of day and month in a text is that of the source's DateStyle.
func TestDateOrder(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	for style, want := range map[string]string{"ISO, DMY": `{"dia":"2026-02-01"}`, "ISO, MDY": `{"dia":"2026-01-02"}`} {
		if _, err := conn.Exec(t.Context(), "select set_config('datestyle', $1, false)", style); err != nil {
			t.Fatal(err)
		}
		m := mapping.NewMapper(bind(t, conn, mapping.Options{}, "rules: [{event: e, table: clientes, on: insert, data: {dia: nome::date}}]"), nil)
		if got := run(t, m, change(rel, cdc.Insert, nil, with(client(), values{"nome": "01/02/2026"}))); len(got) != 1 || got[0].Data != want {
			t.Errorf("%s: %+v, want %s", style, got, want)
		}
	}
}
