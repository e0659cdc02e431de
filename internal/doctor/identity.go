package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// muchWAL is the WAL a day, in bytes, from which on old rows are worth a warning.
const muchWAL = 10e9

// identities says what the replica identities of the rules' tables cost: under FULL each
// UPDATE and DELETE writes the whole old row to the WAL, too.
func (e *sourceExam) identities(ctx context.Context, tx pgx.Tx, tables []cdc.TableNeed) error {
	if len(tables) == 0 {
		e.skip("identity.cost", atSource, "the tables of the rules are not known")
		return nil
	}
	schemas, names := e.namesOf(tables)
	rows, _ := tx.Query(ctx, `
		select o.n::int8 - 1, c.relreplident::text, coalesce(s.n_tup_upd + s.n_tup_del, 0)::int8,
			case when c.reltuples > 0 then c.relpages * pg_catalog.current_setting('block_size')::int8 / c.reltuples else 0 end::float8,
			extract(epoch from pg_catalog.now() - coalesce((select stats_reset from pg_catalog.pg_stat_database where datname = pg_catalog.current_database()), least(b.stats_reset, w.stats_reset)))::float8
		from unnest($1::text[], $2::text[]) with ordinality o(space, name, n)
		join pg_catalog.pg_namespace ns on ns.nspname = o.space join pg_catalog.pg_class c on c.relnamespace = ns.oid and c.relname = o.name
		cross join pg_catalog.pg_stat_bgwriter b cross join pg_catalog.pg_stat_wal w
		left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid`, unnamed, schemas, names)
	var i, changes int64
	var identity string
	var rowBytes, seconds float64
	light := 0
	_, err := pgx.ForEachRow(rows, []any{&i, &identity, &changes, &rowBytes, &seconds}, func() error {
		if identity != "f" {
			light++
			return nil
		}
		e.add(fullCost(tables[i], changes, rowBytes, time.Duration(seconds*float64(time.Second))))
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what the replica identities cost: %w", err)
	}
	if light > 0 {
		e.say(cdc.SeverityOK, "identity.cost", atSource, "%d of the rules' %d tables send no whole old rows", light, len(tables))
	}
	return nil
}

// fullCost is the finding of a table with REPLICA IDENTITY FULL.
func fullCost(table cdc.TableNeed, changes int64, rowBytes float64, over time.Duration) cdc.Finding {
	name := cdc.Name{Schema: table.Schema, Name: table.Name}.String()
	f := cdc.Finding{ID: "identity.cost", Severity: cdc.SeverityNote, Where: atSource, Table: name, Title: name + " has REPLICA IDENTITY FULL"}
	daily := float64(changes) / max(over.Hours()/24, 1.0/24) // statistics of a moment say nothing of a day
	switch {
	case rowBytes == 0:
		f.Why = "each UPDATE and DELETE writes the old row to the WAL; the size of its rows is not known before its first ANALYZE"
	default:
		f.Title += fmt.Sprintf(": %.0f rows updated or deleted a day (%d in %s) × %.0f bytes of an old row = %s of WAL a day", daily, changes, span(over), rowBytes, Bytes(int64(daily*rowBytes)))
		f.Why = "each UPDATE and DELETE writes the old row to the WAL"
		if daily*rowBytes > muchWAL {
			f.Severity = cdc.SeverityWarning
		}
	}
	if daily*rowBytes > muchWAL {
		f.Remedy = "see whether its rules need old values of columns outside of a key; if not, a unique index on NOT NULL columns does: REPLICA IDENTITY USING INDEX"
	}
	return f
}

// largeRows warns of whole old rows that may be too large for the server to write.
func (e *sourceExam) largeRows(ctx context.Context, tx pgx.Tx, tables []cdc.TableNeed) error {
	names := make([]cdc.Name, len(tables))
	for i, t := range tables {
		names[i] = cdc.Name{Schema: t.Schema, Name: t.Name}
	}
	found, err := cdc.LargeRows(ctx, tx, e.Source.Encoding, names)
	for _, l := range found {
		if !l.Full {
			continue
		}
		e.add(cdc.Finding{
			ID: "identity.gigabyte", Severity: cdc.SeverityWarning, Where: atSource, Table: l.Table.String(),
			Title: fmt.Sprintf("%s has REPLICA IDENTITY FULL, and its rows have %s of large values on average", l.Table, Bytes(l.Bytes)),
			Why:   "PostgreSQL refuses the application's own UPDATE and DELETE of a row above 1 GB under REPLICA IDENTITY FULL (invalid memory alloc request size), and works with it otherwise",
			Remedy: fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY DEFAULT, or USING INDEX, where the rules can do without old values of other columns; "+
				"else keep its rows well below 1 GB", l.Table),
		})
	}
	return err
}

// unused finds tables of the publications that no rule is about.
func (e *sourceExam) unused(ctx context.Context, tx pgx.Tx, tables []cdc.TableNeed) error {
	if len(tables) == 0 {
		e.skip("publication.unused", "source.publication", "the tables of the rules are not known")
		return nil
	}
	schemas, names := e.namesOf(tables)
	var n int64
	var example string
	err := tx.QueryRow(ctx, `
		select pg_catalog.count(*), coalesce(pg_catalog.min(r.prrelid::pg_catalog.regclass::text), '') from pg_catalog.pg_publication p join pg_catalog.pg_publication_rel r on r.prpubid = p.oid
		where p.pubname = any($1) and not exists (select from unnest($2::text[], $3::text[]) o(space, name)
			join pg_catalog.pg_namespace ns on ns.nspname = o.space join pg_catalog.pg_class c on c.relnamespace = ns.oid and c.relname = o.name
			where c.oid = r.prrelid or exists (select from pg_catalog.pg_inherits h where h.inhrelid = r.prrelid and h.inhparent = c.oid))`,
		unnamed, []string{e.Source.Publication, cdc.InsertPublication(e.Source.Publication)}, schemas, names).Scan(&n, &example)
	switch {
	case err != nil:
		return fmt.Errorf("read the publications' tables: %w", err)
	case n == 0:
		e.say(cdc.SeverityOK, "publication.unused", "source.publication", "the publications list no table without a rule")
	default:
		e.add(cdc.Finding{
			ID: "publication.unused", Severity: cdc.SeverityNote, Where: "source.publication", Title: fmt.Sprintf("the publications list %d tables that no rule is about, such as %s", n, example),
			Why: "their changes are decoded, sent and discarded", Remedy: fmt.Sprintf("ALTER PUBLICATION ... DROP TABLE ..., as their owner; see \\dRp+ %s", cdc.QuoteIdentifier(e.Source.Publication)),
		})
	}
	return nil
}

// namesOf are the names as the server compares them.
func (e *sourceExam) namesOf(tables []cdc.TableNeed) (schemas, names []string) {
	for _, t := range tables {
		schemas, names = append(schemas, e.Source.Encoding.Encode(t.Schema)), append(names, e.Source.Encoding.Encode(t.Name))
	}
	return schemas, names
}
