package cdc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// preparation is the state of one Prepare.
type preparation struct {
	Options
	conn   *pgx.Conn
	setup  *SetupError
	source *Source
	// newSlot: the slot does not exist yet.
	newSlot bool
	updates bool // a rule watches updates or deletes, which the publication will have to publish
	// identities are those that statements before these give tables, stored the
	// publications that they let publish generated columns.
	identities identities
	stored     []string
}

// Unpublishable says why the table can be in no publication, and what to do
// about it, in SQL or in words; "" when it can be.
func (t *Table) Unpublishable() (problem string, statements []Statement, hint string) {
	name := t.Relation.TableName()
	kinds := map[byte]string{'v': "a view", 'm': "a materialized view", 'f': "a foreign table"}
	switch {
	case t.Kind == 'f':
		hint = "write a rule in the database that holds it"
	case kinds[t.Kind] != "":
		hint = "write the rule on the table that it reads, with the view's condition in when"
	case t.Persistence == 'u':
		return fmt.Sprintf("table %s is unlogged: its changes are not in the WAL", name), []Statement{SetLogged(name)}, ""
	case t.Persistence == 't':
		return fmt.Sprintf("table %s is temporary: its changes are not in the WAL", name), nil, "remove the rule"
	case t.Relation.Schema == "pg_catalog" || t.Relation.Schema == "information_schema":
		return fmt.Sprintf("%s belongs to PostgreSQL itself and cannot be published", name), nil, "remove the rule"
	default:
		return "", nil, ""
	}
	return fmt.Sprintf("%s is %s, which has no changes of its own", name, kinds[t.Kind]), nil, hint
}

// publication is one of the two that Gancho subscribes to, as it is or, when
// it does not exist, as it would be created.
type publication struct {
	name    string
	exists  bool
	viaRoot bool
	stored  bool // it publishes stored generated columns (18 and newer)
	ops     operations
	add     []*Table // tables that it lacks
	lacking []lack
}

// lack is what a publication does not publish and a rule on a table needs.
type lack struct {
	ops   operations
	table Name
}

// operations are what a publication publishes.
type operations struct{ Insert, Update, Delete, Truncate bool }

// insertsOnly are what the publication of tables without replica identity may publish.
var insertsOnly = operations{Insert: true, Truncate: true}

// without returns the operations that are in o and not in p.
func (o operations) without(p operations) operations {
	return operations{o.Insert && !p.Insert, o.Update && !p.Update, o.Delete && !p.Delete, o.Truncate && !p.Truncate}
}

func (o operations) or(p operations) operations {
	return operations{o.Insert || p.Insert, o.Update || p.Update, o.Delete || p.Delete, o.Truncate || p.Truncate}
}

// String returns the operations as CREATE PUBLICATION's option publish has them.
func (o operations) String() string {
	var names []string
	for i, on := range []bool{o.Insert, o.Update, o.Delete, o.Truncate} {
		if on {
			names = append(names, (Insert + Op(i)).String())
		}
	}
	return strings.Join(names, ", ")
}

// publications decides which publication each table belongs in, and adds what is
// missing.
//
// A table without a usable replica identity goes into a publication of inserts
// and truncates only. In one that publishes updates, PostgreSQL would refuse
// the application's own UPDATE and DELETE:
// https://www.postgresql.org/docs/current/logical-replication-publication.html
func (p *preparation) publications(ctx context.Context, needs []TableNeed) error {
	full, err := findPublication(ctx, p.conn, p.Publication, operations{true, true, true, true})
	if err != nil {
		return err
	}
	inserts, err := findPublication(ctx, p.conn, p.insertPublication(), insertsOnly)
	if err != nil {
		return err
	}
	for _, pub := range []*publication{full, inserts} {
		pub.stored = pub.stored || slices.Contains(p.stored, pub.name)
	}
	p.updates = slices.ContainsFunc(needs, func(n TableNeed) bool { return n.Update || n.Delete })
	would := *full
	would.ops.Update, would.ops.Delete = full.ops.Update || p.updates, full.ops.Delete || p.updates
	tables := slices.DeleteFunc(slices.Clone(p.source.Tables), func(t *Table) bool { return t == nil })
	refused, err := refusals(ctx, p.conn, p.Encoding, would, tables, p.identities)
	if err != nil {
		return err
	}
	for i, table := range p.source.Tables {
		if table == nil {
			continue
		}
		if err := p.place(ctx, needs[i], table, refused[table.Relation.OID], full, inserts); err != nil {
			return err
		}
	}
	p.widen(ctx, full, inserts)
	if err := p.decideGenerated(ctx, full, inserts); err != nil {
		return err
	}
	if err := p.checkHarm(ctx, full, inserts); err != nil {
		return err
	}
	if len(p.setup.Findings) > 0 {
		// All or nothing: the problems are fixed first.
		p.propose(full, inserts)
		return nil
	}
	if err := p.provide(ctx, full, inserts); err != nil {
		return err
	}
	p.source.Publications = []string{full.name}
	if inserts.exists || p.statement(inserts).SQL != "" {
		p.source.Publications = append(p.source.Publications, inserts.name)
	}
	return nil
}

// findPublication reads the publication from the catalogue. If it does not exist,
// it is what Gancho would create, with the operations.
func findPublication(ctx context.Context, conn *pgx.Conn, name string, ops operations) (*publication, error) {
	pub := &publication{name: name, viaRoot: true, stored: serverVersion(conn) >= 180000, ops: ops}
	stored := "false"
	if pub.stored {
		stored = "pubgencols = 's'"
	}
	err := conn.QueryRow(ctx, `select pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, `+stored+`
		from pg_catalog.pg_publication where pubname = $1`, name).
		Scan(&pub.ops.Insert, &pub.ops.Update, &pub.ops.Delete, &pub.ops.Truncate, &pub.viaRoot, &pub.stored)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read publication %q: %w", name, err)
	}
	pub.exists = err == nil
	return pub, nil
}

// place decides which publication the table belongs in and notes what stands
// in the way. refused is what the full publication would make fail.
func (p *preparation) place(ctx context.Context, need TableNeed, table *Table, refused []Hazard, full, inserts *publication) error {
	name := table.Relation.TableName()
	if hidden, err := p.hiddenByRoot(ctx, table, full, inserts); err != nil || hidden {
		return err
	}
	var have operations
	in := make(map[string]bool)
	for _, m := range table.Memberships {
		if m.Publication == full.name || m.Publication == inserts.name {
			have = have.or(operations{m.Insert, m.Update, m.Delete, m.Truncate})
			in[m.Publication] = true
		}
	}
	missing := operations{need.Insert, need.Update, need.Delete, need.Truncate}.without(have)
	if missing == (operations{}) {
		return nil
	}
	if full.exists {
		p.setup.Missing = append(p.setup.Missing, name)
	}
	target := full
	if len(refused) > 0 {
		target = inserts
		if missing.Update || missing.Delete {
			p.setup.add(refusal(table, refused[0]))
			return nil
		}
	}
	lacking := missing.without(target.ops)
	if lacking != (operations{}) {
		target.lacking = append(target.lacking, lack{lacking, name})
	}
	switch {
	case in[target.name] && lacking != operations{}: // widen says so
	case in[target.name]:
		f := p.setup.addf("publication.operations", Statement{}, "publication %s has %s and yet does not publish %s of it", QuoteIdentifier(target.name), name, missing)
		f.Remedy = "inspect it with \\dRp+ " + QuoteIdentifier(target.name)
	case target == inserts && (inserts.ops.Update || inserts.ops.Delete):
		p.setup.addf("publication.unsafe", inserts.publish(insertsOnly),
			"publication %s publishes updates or deletes, which is not safe for %s, a table without replica identity", QuoteIdentifier(inserts.name), name)
	case table.Kind == 'p' && !target.viaRoot:
		set := fmt.Sprintf("ALTER PUBLICATION %s SET (publish_via_partition_root = ", QuoteIdentifier(target.name))
		p.setup.addf("publication.partitions", about(Statement{SQL: set + "true);", Undo: set + "false);", step: stepOption}, publicationObject(target.name)),
			"publication %s publishes the partitions of %s under their own names", QuoteIdentifier(target.name), name)
	case !slices.ContainsFunc(target.add, func(t *Table) bool { return t.Relation.OID == table.Relation.OID }):
		target.add = append(target.add, table)
	}
	return nil
}

// widen reports, as one problem for each publication, the operations that rules need and it does
// not publish: one statement sets them, and a second one would take back the first.
func (p *preparation) widen(ctx context.Context, full, inserts *publication) {
	for _, pub := range []*publication{full, inserts} {
		var lacking operations
		var tables []Name
		for _, l := range pub.lacking {
			lacking, tables = lacking.or(l.ops), append(tables, l.table)
		}
		then := pub.ops.or(lacking)
		if pub == inserts && (pub.ops.Update || pub.ops.Delete) {
			then = insertsOnly // as place has it
		}
		switch {
		case len(tables) == 0:
		case pub == full && (lacking.Update || lacking.Delete) && p.exposes(ctx, full, inserts, then):
			// exposes has added the problem that comes first.
		default:
			rules := "a rule on " + tables[0].String() + " needs"
			if len(tables) > 1 {
				rules = "rules on " + joinNames(tables) + " need"
			}
			p.setup.addf("publication.operations", pub.publish(then), "publication %s does not publish %s, which %s", QuoteIdentifier(pub.name), lacking, rules)
		}
	}
}

// exposes reports, as a problem with its remedy, the tables of a publication
// whose UPDATE and DELETE would fail if it published those too. A catalogue
// that cannot be read counts as one that has such tables.
func (p *preparation) exposes(ctx context.Context, pub, inserts *publication, then operations) bool {
	would := *pub
	would.ops, would.add = then, nil
	found, err := hazards(ctx, p.conn, p.Encoding, p.Publication, assumption{publications: []*publication{&would}, next: true, identities: p.identities})
	var statements []Statement
	for _, h := range found {
		if h.Publication == pub.name && h.RefusesStatements() {
			statements = append(statements, MoveTable(h.Table, pub.name, inserts.name))
		}
	}
	switch {
	case err != nil:
		p.setup.addf("publication.unread", Statement{}, "the tables of publication %s could not be read: %v", QuoteIdentifier(pub.name), err)
	case len(statements) > 0:
		if inserts.ops.Update || inserts.ops.Delete {
			statements = append(statements, inserts.publish(insertsOnly))
		}
		p.setup.add(Finding{
			ID: "publication.operations", Title: fmt.Sprintf("publication %s does not publish updates and deletes, which a rule needs, and has tables without replica identity, whose own UPDATE and DELETE would fail if it did", QuoteIdentifier(pub.name)),
			Remedy:     fmt.Sprintf("once publication %s exists", QuoteIdentifier(inserts.name)),
			Statements: append(statements, pub.publish(then)),
		})
	default:
		return false
	}
	return true
}

// publish is the statement that sets what the publication publishes: less before tables are
// put into it that must not have more, and more once those have left it.
func (pub *publication) publish(to operations) Statement {
	set := fmt.Sprintf("ALTER PUBLICATION %s SET (publish = '", QuoteIdentifier(pub.name))
	when := stepWiden
	if pub.ops.without(to) != (operations{}) {
		when = stepNarrow
	}
	return about(Statement{SQL: set + to.String() + "');", Undo: set + pub.ops.String() + "');", step: when}, publicationObject(pub.name))
}

// decideGenerated decides whether a new publication publishes stored generated
// columns: only if a replica identity covers one. They cost WAL decoding and
// traffic, and a table in both publications needs the same answer in both.
func (p *preparation) decideGenerated(ctx context.Context, full, inserts *publication) error {
	if !full.exists && full.stored {
		would := *full
		would.stored = false
		found, err := hazards(ctx, p.conn, p.Encoding, p.Publication, assumption{publications: []*publication{&would}, identities: p.identities})
		if err != nil {
			return err
		}
		full.stored = slices.ContainsFunc(found, func(h Hazard) bool { return h.Publication == full.name && h.Reason == HazardGenerated })
	}
	if !inserts.exists {
		inserts.stored = full.stored
	}
	for _, t := range p.source.Tables {
		if t != nil && len(t.Generated) > 0 && full.stored != inserts.stored && full.willHave(t) && inserts.willHave(t) {
			lacks := full
			if full.stored {
				lacks = inserts
			}
			p.setup.addf("publication.generated", PublishGenerated(lacks.name), "publications %s and %s both have %s and differ in publish_generated_columns, which ends the stream with an error",
				QuoteIdentifier(full.name), QuoteIdentifier(inserts.name), t.Relation.TableName())
		}
	}
	return nil
}

// willHave: the publication has the table, or is going to.
func (pub *publication) willHave(t *Table) bool {
	return slices.Contains(pub.add, t) || slices.ContainsFunc(t.Memberships, func(m Membership) bool { return m.Publication == pub.name })
}

// checkHarm reports, as problems, the application's statements that work now and
// would fail after what is about to be created. Nothing is created then.
func (p *preparation) checkHarm(ctx context.Context, publications ...*publication) error {
	if !slices.ContainsFunc(publications, func(pub *publication) bool { return len(pub.add) > 0 }) {
		return nil
	}
	now, err := Hazards(ctx, p.conn, p.Encoding, p.Publication)
	if err != nil {
		return err
	}
	then, err := hazards(ctx, p.conn, p.Encoding, p.Publication, assumption{publications: publications, identities: p.identities})
	if err != nil {
		return err
	}
	for _, h := range then {
		ours := slices.ContainsFunc(publications, func(pub *publication) bool { return pub.name == h.Publication })
		if ours && h.RefusesStatements() && !slices.ContainsFunc(now, func(n Hazard) bool { return n.String() == h.String() }) {
			f := h.Finding()
			f.Title = fmt.Sprintf("adding %s to publication %s would make the application's own %s fail, because %s", h.Table, QuoteIdentifier(h.Publication), h.statements(), h.Why())
			p.setup.add(f)
		}
	}
	return nil
}

// hiddenByRoot reports the partition whose changes arrive under its root's name.
func (p *preparation) hiddenByRoot(ctx context.Context, table *Table, publications ...*publication) (bool, error) {
	root := table.PartitionRoot
	if root == (Name{}) {
		return false, nil
	}
	const rootOf = "select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2"
	found, err := loadMemberships(ctx, p.conn, p.Encoding, rootOf, root.Schema, root.Name)
	if err != nil {
		return false, fmt.Errorf("read publications of %s: %w", root, err)
	}
	hidden := slices.ContainsFunc(p.source.Tables, func(t *Table) bool { return t != nil && t.Relation.TableName() == root })
	for _, m := range slices.Concat(slices.Collect(maps.Values(found))...) {
		hidden = hidden || m.ViaRoot && slices.ContainsFunc(publications, func(pub *publication) bool { return pub.name == m.Publication })
	}
	if hidden {
		f := p.setup.addf("publication.partition", Statement{}, "%s is a partition of %s, and its changes are published under that name", table.Relation.TableName(), root)
		f.Remedy = fmt.Sprintf("write the rule on %s", root)
	}
	return hidden, nil
}

// refusal says why the table's updates and deletes cannot be published, and what
// to do.
func refusal(table *Table, h Hazard) Finding {
	const consequence = "so that publishing its updates and deletes would make the application's own UPDATE and DELETE fail"
	name := table.Relation.TableName()
	f := h.Finding()
	f.ID, f.Table = "identity.none", name.String()
	f.Remedy = joinNonEmpty(", ", f.Remedy, "or let the rule watch inserts only")
	switch {
	case h.Reason != HazardIdentity:
		f.ID = "publication.refused." + string(h.Reason)
		f.Title = fmt.Sprintf("table %s cannot be in publication %s with its updates and deletes, because %s and the application's own UPDATE and DELETE would fail", h.Table, QuoteIdentifier(h.Publication), h.Why())
	case table.Kind == 'p' && h.Table == name:
		f.Title = fmt.Sprintf("partitioned table %s has no primary key, %s, if not now then in its next partition", name, consequence)
		f.Statements, f.Remedy = nil, fmt.Sprintf("add a primary key to %s, or let the rule watch inserts only", name)
	case table.Kind == 'p':
		f.Title = fmt.Sprintf("partition %s of %s has no replica identity, %s", h.Table, name, consequence)
	case table.PrimaryKey != nil:
		f.Title = fmt.Sprintf("table %s has a primary key that is no replica identity (deferrable, or switched off), %s", name, consequence)
	default:
		f.Title = fmt.Sprintf("table %s has no primary key and no replica identity, %s", name, consequence)
	}
	return f
}

// provide creates what is missing, or proposes it without Options.Create.
func (p *preparation) provide(ctx context.Context, publications ...*publication) error {
	if !p.Create {
		p.propose(publications...)
		return nil
	}
	for _, pub := range publications {
		statement := p.statement(pub)
		if statement.SQL == "" {
			continue
		}
		err := p.alter(ctx, statement.SQL)
		if SQLState(err) == CodeReadOnly && p.source.Settings.Standby {
			p.setup.addf("publication.standby", statement, "source.dsn leads to a standby, and publication %s has to be created or altered on its primary", QuoteIdentifier(pub.name)).Remedy = "on the primary, and start again when the standby has it"
			continue
		}
		if FaultOf(err) == FaultDenied {
			p.setup.addf("publication.denied", statement, "the role may not create or alter publication %s for these tables", QuoteIdentifier(pub.name))
			continue
		}
		if err != nil {
			return fmt.Errorf("run %s: %w", statement.SQL, err)
		}
		p.Log.Info().Str("publication", pub.name).Int("tables_added", len(pub.add)).Msg("publication prepared")
	}
	return nil
}

// alter runs a statement that locks tables of the application.
func (p *preparation) alter(ctx context.Context, statement string) error {
	return Briefly(ctx, p.conn, statement, nil, func(error) {
		p.Log.Info().Msg("another session has locked a table that is to be published (see pg_locks): trying again")
	})
}

// propose notes what is missing together with its SQL.
func (p *preparation) propose(publications ...*publication) {
	for _, pub := range publications {
		statement := p.statement(pub)
		if statement.SQL == "" {
			continue
		}
		add := p.setup.addf // a slot that reads without the tables misses their changes
		if p.newSlot {
			add = p.setup.addFirstf
		}
		if pub.exists {
			add("publication.table", statement, "publication %s lacks %s", QuoteIdentifier(pub.name), tableList(pub.add))
		} else if pub.ops.Update {
			add("publication.missing", statement, "publication %s does not exist", QuoteIdentifier(pub.name))
		} else {
			add("publication.missing", statement, "publication %s does not exist (it is for tables without replica identity, now or later)", QuoteIdentifier(pub.name))
		}
	}
}

// statement returns the SQL that completes the publication, or none. The one for
// everything must exist, even empty. The one for inserts is created together
// with the slot: changes cannot be read through a publication that is younger
// than they are, so that it would come too late for a slot in use.
func (p *preparation) statement(pub *publication) Statement {
	var tables []object
	for _, t := range pub.add {
		tables = append(tables, tableObject(t.Relation.TableName()))
	}
	switch {
	case len(pub.add) == 0 && (pub.exists || pub.name != p.Publication && !p.newSlot):
		return Statement{}
	case pub.exists:
		alter := fmt.Sprintf("ALTER PUBLICATION %s ", QuoteIdentifier(pub.name))
		return about(Statement{SQL: alter + "ADD TABLE " + tableList(pub.add) + ";", Undo: alter + "DROP TABLE " + tableList(pub.add) + ";", step: stepPublication, byCreate: true},
			append(tables, publicationObject(pub.name))...)
	}
	list := ""
	if len(pub.add) > 0 {
		list = " FOR TABLE " + tableList(pub.add)
	}
	generated := ""
	if pub.stored {
		generated = ", publish_generated_columns = stored"
	}
	if len(tables) == 0 {
		tables = []object{{kind: 'd'}}
	}
	return about(Statement{
		SQL:  fmt.Sprintf("CREATE PUBLICATION %s%s WITH (publish = '%s', publish_via_partition_root = true%s);", QuoteIdentifier(pub.name), list, pub.ops, generated),
		Undo: fmt.Sprintf("DROP PUBLICATION %s;", QuoteIdentifier(pub.name)), step: stepPublication, creates: true, byCreate: true,
	}, tables...)
}

// tableList writes the tables for CREATE PUBLICATION. ONLY keeps inheritance
// children out: they have their own names, and perhaps no replica identity.
func tableList(tables []*Table) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Relation.TableName().String()
		if t.Inherited {
			names[i] = "ONLY " + names[i]
		}
	}
	return strings.Join(names, ", ")
}
