package presets_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/presets"
	"gancho/mapping"
	"gancho/migrations"
)

// commented are the lines of rules that stand in comments.
var commented = regexp.MustCompile(`(?m)^  # ((?:- event:|  ).*)$`)

// sent are the payloads of events.
type sent []string

func (s *sent) Event(e *mapping.Event) error {
	*s = append(*s, string(e.Tenant)+" "+string(e.Key)+" "+string(e.Data))
	return nil
}

func (s *sent) Park(p *mapping.Parked) error {
	*s = append(*s, p.Reason)
	return nil
}

// TestCommentedRules: what the presets have in comments are rules for the legacy schema, of which four are for events that
// time makes; those with schedule find the rows that they are about.
func TestCommentedRules(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	schema, _, identity := migrations.Legacy()
	dsn := pg.Database(t, "", schema, identity, `
		insert into empresas (id, codigo, rede_chave, razao_social) values (1, '0001', 'x', 'Academia');
		insert into clientes (id, empresa_id, matricula, nome, situacao) values (1, 1, '10', 'Ana', 'AT'), (2, 1, '20', 'Bia', 'AT'), (3, 1, '30', 'Caio', 'IN');
		insert into acessos (empresa_id, cliente_id, dt_acesso, sentido, liberado) values
			(1, 1, '2026-11-20 18:00', 'ENTRADA', true), (1, 1, '2026-11-10 18:00', 'ENTRADA', true), (1, 2, '2026-11-28 18:00', 'ENTRADA', true), (1, 3, '2026-11-01 18:00', 'ENTRADA', true);
		insert into contratos (id, empresa_id, cliente_id, numero, situacao, dt_inicio, dt_fim, dt_fim_ajustada) values
			(5, 1, 1, 'A5', 'AT', '2026-01-01', '2026-12-20', null), (6, 1, 2, 'A6', 'AT', '2026-01-01', '2026-12-20', '2027-03-01'), (7, 1, 3, 'A7', 'CA', '2026-01-01', '2026-12-20', null)`)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	var events []string
	got := map[string]sent{}
	for _, preset := range presets.Names() {
		files, err := presets.Files(preset)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, commented.ReplaceAll(text, []byte("  $1")), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, m := range commented.FindAllStringSubmatch(string(text), -1) {
				if event, is := strings.CutPrefix(m[1], "- event: "); is {
					events = append(events, event)
				}
			}
			parsed, err := mapping.Parse(mapping.Options{Files: []string{path}, Location: location})
			if err != nil {
				t.Fatal(err)
			}
			rules, err := parsed.Bind(ctx, conn)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range rules.Findings() {
				if strings.HasPrefix(f.ID, "schedule.") && f.Severity > cdc.SeverityNote {
					t.Errorf("%s: %s", f.Where, f.Title)
				}
			}
			source := mapping.NewSource(dsn, "", zerolog.Nop())
			for _, rule := range rules.Schedules() {
				at := time.Date(2026, 11, 29, 8, 0, 0, 0, location)
				mapper, all := rule.NewMapper(at), sent{}
				if err := rule.Run(ctx, source, at, func(row []cdc.Datum) error { return mapper.Map(row, &all) }); err != nil {
					t.Fatal(err)
				}
				got[rule.Event()] = all
			}
			source.Close(ctx)
		}
	}
	slices.Sort(events)
	if diff := cmp.Diff([]string{"cobranca.vencida", "notificarAusencia", "notificarContratoVencendo", "pedido.abandonado"}, events); diff != "" {
		t.Error(diff)
	}
	want := map[string]sent{
		"notificarAusencia":         {`1 1 {"codigoCliente":1,"matricula":"10","nome":"Ana","ultimoAcesso":"2026-11-20T18:00:00"}`},
		"notificarContratoVencendo": {`1 1 {"codigoContrato":5,"numero":"A5","codigoCliente":1,"fim":"2026-12-20"}`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
