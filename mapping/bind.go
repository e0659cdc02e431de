package mapping

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/pgtext"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// maxRulesPerTable: an event's number within its change has 16 bits.
const maxRulesPerTable = 1 << 16

// boundRule is a rule that fits its table.
type boundRule struct {
	*rule
	table *cdc.Table
	// full says how to make the server send whole old rows of the table; empty: it
	// sent them when the rules were loaded.
	full remedy
	// needsOld is why the rule needs whole old rows; "": it does not.
	needsOld string
	// columns are the columns that the rule depends on, by name, with their types.
	columns map[string]*cdc.Type
	// computed says, of a rule with schedule, which columns of its query are none of a table.
	computed []bool
	// denied are those of them that privacy.deny names.
	denied map[string]bool
	// hidden are those that the rule shows only masked or hashed, if at all. A
	// parked row must not show them either.
	hidden map[string]bool
	// allowed are, by column, the only values that CHECK constraints allow besides null.
	allowed map[string][]string
	lookups []*boundLookup
	// delegated are the expressions that the source evaluates, and conditions when, where
	// it is not decided at the change alone.
	delegated  map[site]*delegated
	conditions map[group]*condition
	// seen are the operations of the table that must be published.
	seen opSet
	// number is what Number has given the rule; before, it counts the per-transaction
	// rules, and means nothing in others.
	number int
	// inherits is the rule of which this is one for an heir; nil: none.
	inherits *boundRule
	// Of a per-transaction rule: moving is movingKey; children are the tables whose changes count as
	// changes of the row, familyKey the columns that they refer to; rootKey are the
	// columns that root_only refers to.
	moving    []string
	children  []*boundChild
	familyKey []string
	rootKey   []string
}

// hiddenKey: the ordering key is empty where the rule's own is null, because a column
// of the primary key, of which it is made otherwise, is denied.
func (b *boundRule) hiddenKey() bool {
	return b.key != nil && slices.ContainsFunc(b.orderingKey(), func(column string) bool { return b.denied[column] })
}

// Bind checks the rules against the source's catalogue and returns them as a
// Ruleset. The error is a [*MistakesError] with all mistakes of all files, or
// that of a query. The connection is only used until Bind returns.
func (r *Rules) Bind(ctx context.Context, conn *pgx.Conn) (*Ruleset, error) {
	return r.bind(ctx, &binder{conn: conn})
}

// bind is Bind with a binder that has a connection or a saved catalogue.
func (r *Rules) bind(ctx context.Context, b *binder) (*Ruleset, error) {
	b.options, b.types = r.options, cdc.NewTypes(r.options.Encoding)
	b.tables, b.viewTables, b.underFull = map[cdc.Name]*cdc.Table{}, map[uint32][]cdc.Name{}, map[uint32][]cdc.Hazard{}
	b.allowed = map[uint32]map[string][]string{}
	b.harmless, b.uses = map[uint32]bool{}, map[*boundRule][]use{}
	b.saving = saving{map[string]CatalogueType{}, map[string]CatalogueQuery{}, map[uint32][]string{}, map[uint32][]string{}}
	if err := b.loadSource(ctx); err != nil {
		return nil, fmt.Errorf("bind rules: %w", err)
	}
	if misfit := r.options.Encoding.Misfit(b.database.Encoding); misfit != "" {
		return nil, fmt.Errorf("bind rules: %s", misfit)
	}
	rs := &Ruleset{
		byTable: map[cdc.Name][]*boundRule{}, perTransaction: map[int]*boundRule{}, transactional: map[cdc.Name][]*transactionTable{},
		policy: r.options.OnSchemaChange,
	}
	rs.settings = b.settings
	rs.settings.Secrets = r.options.Secrets
	b.zones = &zones{ctx: ctx, conn: b.conn, checked: map[string]error{}}
	defer func() { b.zones.conn = nil }()
	rs.settings.CheckZone = b.zones.check
	b.settings = rs.settings
	if err := b.checkSource(r.options.Location); err != nil {
		return nil, fmt.Errorf("bind rules: %w", err)
	}
	if err := b.load(ctx, r.named()); err != nil {
		return nil, fmt.Errorf("bind rules: %w", err)
	}
	if err := b.loadDenied(ctx, r.deny); err != nil {
		return nil, fmt.Errorf("bind rules: %w", err)
	}
	rs.path, rs.schemas, rs.denied = b.room.path, b.room.schemas, b.denied
	for _, rule := range r.rules {
		bound, err := b.bind(ctx, rule)
		if err != nil {
			return nil, fmt.Errorf("bind rules: %w", err)
		}
		if bound == nil {
			continue
		}
		name := bound.table.Relation.TableName()
		if len(rs.byTable[name]) == maxRulesPerTable {
			b.mistake(rule.value, -1, "", "table %s has more than %d rules", name, maxRulesPerTable)
		}
		if !rs.addTransactional(bound) {
			b.mistake(rule.value, -1, "", "there are more than %d rules with collapse, children or root_only", maxRulesPerTable)
		}
		b.tellTimersApart(rs.byTable[name], bound)
		rs.rules = append(rs.rules, bound)
		rs.byTable[name] = append(rs.byTable[name], bound)
	}
	for _, rule := range r.schedules {
		bound, err := b.bindSchedule(ctx, rule, rs)
		if err != nil {
			return nil, fmt.Errorf("bind rules: %w", err)
		}
		if bound != nil {
			rs.schedules = append(rs.schedules, bound)
		}
	}
	if err := b.follow(ctx, rs); err != nil {
		return nil, fmt.Errorf("bind rules: %w", err)
	}
	if err := b.leastIdentities(ctx, rs); err != nil {
		return nil, fmt.Errorf("bind rules: %w", err)
	}
	rs.findings = slices.Concat(b.findings, publicationFindings(rs, r.options.Publication))
	rs.catalogue = b.catalogue()
	rs.indexTimed()
	if b.saved == nil {
		var err error
		if rs.boundAt, err = currentLSN(ctx, b.conn); err != nil {
			return nil, fmt.Errorf("bind rules: %w", err)
		}
		if b.reliesOnRole {
			rs.reader = b.reader
		}
	}
	if err := b.resolveOwners(ctx, rs.findings, b.mistakes(ctx, rs)); err != nil {
		return nil, err
	}
	return rs, nil
}

// currentLSN reads the end of the server's WAL.
func currentLSN(ctx context.Context, conn *pgx.Conn) (lsn cdc.LSN, err error) {
	err = conn.QueryRow(ctx, "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end").Scan(&lsn)
	return lsn, err
}

// languageSettings are the properties of the database that decide what
// expressions mean. Under the builtin provider (PostgreSQL 17) its own locale
// counts, and datcollate means nothing:
// https://www.postgresql.org/docs/current/locale.html#LOCALE-PROVIDERS
func languageSettings(ctx context.Context, conn *pgx.Conn, s cdc.Settings, o Options) (expr.Settings, error) {
	out := expr.Settings{Location: o.Location, Collation: s.Collation, CType: s.Ctype, Encoding: o.Encoding.Counted(s.Encoding)}
	var builtin *string
	var dateStyle string
	err := conn.QueryRow(ctx, `
		select coalesce(d->>'datlocprovider', 'c'), d->>'datlocale', current_setting('lc_monetary'), current_setting('datestyle')
		from (select to_jsonb(p) d from pg_catalog.pg_database p where datname = current_database()) x`).Scan(&out.Provider, &builtin, &out.Monetary, &dateStyle)
	if err != nil {
		return out, fmt.Errorf("read locale of the source: %w", err)
	}
	out.DateOrder = pgtext.ParseDateOrder(dateStyle)
	if out.Provider == "b" && builtin != nil {
		out.Collation, out.CType = *builtin, *builtin
	}
	return out, nil
}

// binder collects mistakes and findings while rules are bound.
type binder struct {
	options Options
	// conn leads to the source. Without one, saved is what was read of it before.
	conn     *pgx.Conn
	saved    *loaded
	saving   saving
	database cdc.Settings
	settings expr.Settings
	zones    *zones
	types    *cdc.Types // of the results of lookups
	// tables are those loaded so far, by the name as written; nil: it does not exist.
	tables     map[cdc.Name]*cdc.Table
	allowed    map[uint32]map[string][]string // boundRule.allowed of each
	names      []cdc.Name                     // of all tables, for suggestions; loaded when needed
	searchPath []string
	// denied is privacy.deny, as it is written, by table and column, of the tables
	// that share rows with those named, too.
	denied   map[uint32]map[string]string
	room     room
	harmless map[uint32]bool // functions and operators that read no table
	// reliesOnRole: a lookup calls what may read all that its role may.
	reliesOnRole bool
	reader       string                // the role of lookups, once it was asked for
	viewTables   map[uint32][]cdc.Name // the tables that a view reads
	// underFull are the tables' hazards under REPLICA IDENTITY FULL.
	underFull map[uint32][]cdc.Hazard
	// uses are what the rules depend on.
	uses     map[*boundRule][]use
	errors   strictyaml.Errors
	findings []cdc.Finding
	// denials is how many of errors are privileges that a query of a rule lacks, once it
	// has been understood; lacking are the rules.
	denials int
	lacking []*boundRule
	// proposed are the mistakes that SQL may end.
	proposed map[*strictyaml.Error]*cdc.Finding
	// lacksIdentity are those of them that are the replica identity of a table.
	lacksIdentity map[*cdc.Finding]*cdc.Table
	// children are the tables of rules' children, those that cannot be bound included.
	children []childOf
}

func (b *binder) mistake(v strictyaml.Value, offset int, hint, format string, args ...any) {
	b.errors = append(b.errors, v.Mistake(offset, hint, format, args...))
}

// loadViewTables finds the tables that a view reads.
func (b *binder) loadViewTables(ctx context.Context, view *cdc.Table) error {
	var err error
	b.viewTables[view.Relation.OID], err = queryNames(ctx, b.conn, "read what view "+view.Relation.TableName().String()+" reads", `
		select distinct n.nspname::text, c.relname::text
		from pg_catalog.pg_rewrite r
		join pg_catalog.pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
		join pg_catalog.pg_class c on c.oid = d.refobjid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where r.ev_class = $1 and c.oid <> $1 order by 1, 2`, view.Relation.OID)
	return err
}

// queryNames reads names of tables by the oid of one. What names it in an error.
func queryNames(ctx context.Context, conn *pgx.Conn, what, sql string, args ...any) ([]cdc.Name, error) {
	rows, _ := conn.Query(ctx, sql, args...) // CollectRows returns its error
	names, err := pgx.CollectRows(rows, pgx.RowToStructByPos[cdc.Name])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return names, nil
}

// closestTable is what to do about a table that does not exist, or that the search_path
// does not lead to. query is what names it, "" for a rule.
func (b *binder) closestTable(ctx context.Context, name cdc.Name, query string) (remedy, error) {
	if b.saved != nil {
		return words("%s", b.outsideCatalogue(name)), nil
	}
	if b.names == nil {
		var err error
		if b.names, err = cdc.ListTables(ctx, b.conn, b.options.Encoding); err != nil {
			return remedy{}, err
		}
	}
	short := map[string]cdc.Name{}
	var candidates []string
	for _, n := range b.names {
		if name.Schema == "" && n.Name == name.Name {
			return b.elsewhere(ctx, n, query)
		}
		key := n.Name
		if name.Schema != "" {
			key = n.Schema + "." + n.Name
		} else if slices.Contains(b.searchPath, n.Schema) {
			n.Schema = ""
		}
		short[key] = n
		candidates = append(candidates, key)
	}
	wanted := name.Name
	if name.Schema != "" {
		wanted = name.Schema + "." + name.Name
	}
	if c := strictyaml.Closest(wanted, candidates); c != "" {
		return words("did you mean %s?", short[c]), nil
	}
	return words("write schema.table if it is in none of the schemas of search_path"), nil
}

// elsewhere is what to do about a table or function that is in a schema outside of the
// search_path, or in one that the role may not use.
func (b *binder) elsewhere(ctx context.Context, n cdc.Name, query string) (remedy, error) {
	p := privileges{conn: b.conn, path: quoted(n.Schema)}
	role, err := p.role(ctx)
	if err != nil {
		return remedy{}, err
	}
	if query == "" {
		query = quoted(n.Schema)
	}
	grants, err := p.missingUsage(ctx, query, n.Name, role)
	if len(grants) > 0 {
		return remedy{grants, fmt.Sprintf("because %s exists, and the role may not use its schema", n)}, err
	}
	return words("write %s: its schema is not in the search_path of the role of source.dsn", n), err
}

// loadDenied finds the columns of privacy.deny. A name that matches no column is
// a mistake, because someone relies on it.
func (b *binder) loadDenied(ctx context.Context, deny []denied) error {
	b.denied = map[uint32]map[string]string{}
	for _, d := range deny {
		t, err := b.existing(ctx, d.table, d.mistake)
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		if t.Relation.Column(d.column) < 0 && t.Generated[d.column] == "" {
			c := compiler{relation: t.Relation}
			b.errors = append(b.errors, d.mistake(c.closestColumn(d.column), "column %q is not in table %s", d.column, t.Relation.Name))
			continue
		}
		columns := []string{d.column}
		for column, formula := range t.Generated {
			if mention(formula, "", d.column) >= 0 { // whoever reads it has the value
				columns = append(columns, column)
			}
		}
		if err := b.denyRelated(ctx, t, columns, d.text); err != nil {
			return err
		}
	}
	return nil
}

// deniedOf are the columns of a table that privacy.deny has.
func (b *binder) deniedOf(t *cdc.Table) map[string]bool {
	denied := map[string]bool{}
	for column := range b.denied[t.Relation.OID] {
		denied[column] = true
	}
	return denied
}

// denyRelated denies columns of a table, and of the tables through which its rows are
// read, or whose rows it shows, where these have them: of its parents and children by
// inheritance or partition, and of theirs.
func (b *binder) denyRelated(ctx context.Context, t *cdc.Table, columns []string, text string) error {
	if b.saved != nil {
		if b.denied[t.Relation.OID] == nil {
			b.denied[t.Relation.OID] = map[string]string{}
		}
		for _, column := range columns {
			b.denied[t.Relation.OID][column] = cmp.Or(b.denied[t.Relation.OID][column], text)
		}
		return nil
	}
	rows, _ := b.conn.Query(ctx, `
		with recursive up(oid) as (select $1::oid union select inhparent from up join pg_catalog.pg_inherits on inhrelid = up.oid),
		down(oid) as (select $1::oid union select inhrelid from down join pg_catalog.pg_inherits on inhparent = down.oid)
		select a.attrelid, a.attname::text from pg_catalog.pg_attribute a
		where a.attrelid in (select oid from up union select oid from down) and a.attname = any($2) and not a.attisdropped`, t.Relation.OID, columns) // ForEachRow returns its error
	var relation uint32
	var column string
	_, err := pgx.ForEachRow(rows, []any{&relation, &column}, func() error {
		if b.denied[relation] == nil {
			b.denied[relation] = map[string]string{}
		}
		b.denied[relation][column] = cmp.Or(b.denied[relation][column], text)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the relatives of %s: %w", t.Relation.TableName(), err)
	}
	return nil
}

// bind checks one rule. It returns nil when the table cannot be used at all.
func (b *binder) bind(ctx context.Context, written *rule) (*boundRule, error) {
	r, denials := written, b.denials
	t, err := b.existing(ctx, r.table, r.tableValue.MistakeHere)
	if err != nil || t == nil || !b.publishable(r.tableValue, t) {
		return nil, err
	}
	bound := &boundRule{rule: r, table: t, columns: map[string]*cdc.Type{}, denied: b.deniedOf(t), allowed: b.allowed[t.Relation.OID]}
	if bound.full, err = b.full(ctx, t); err != nil {
		return nil, err
	}
	if bound.moving, err = b.movingKey(ctx, r, t); err != nil {
		return nil, err
	}
	if bound.lookups, err = b.lookups(ctx, r, t); err != nil {
		return nil, err
	}
	bound.rule = r.without(bound.lookups) // every mention of them would repeat the mistake
	r = bound.rule
	c := &compiler{relation: t.Relation, lookups: bound.lookups, settings: b.settings, primaryKey: bound.orderingKey(), hiddenKey: bound.hiddenKey(), collations: t.Collations, generated: t.Generated}
	c.delegated, c.conditions, c.refused = map[site]*delegated{}, map[group]*condition{}, map[site]bool{}
	if err := b.delegate(ctx, bound, c); err != nil {
		return nil, err
	}
	bound.delegated, bound.conditions = c.delegated, c.conditions
	for g := range groups {
		if r.ops&g.ops() != 0 {
			c.compile(r, g)
		}
	}
	c.checkChangedAt(r)
	if err := b.bindTransaction(ctx, bound, c); err != nil {
		return nil, err
	}
	b.bindAfter(bound, c)
	b.errors = append(b.errors, c.mistakes...)
	b.checkMovingTenant(bound, c.uses)
	for _, u := range c.uses {
		column := t.Relation.Columns[u.Index]
		if !u.Whole {
			bound.columns[u.Name] = column.Type
		}
		b.checkUse(bound, u, column)
	}
	bound.hidden = hiddenColumns(c.uses)
	b.uses[bound] = c.uses
	if err := b.checkIdentity(ctx, bound, c.uses); err != nil {
		return nil, err
	}
	if err := b.checkRowsRead(ctx, bound); err != nil {
		return nil, err
	}
	if b.denials > denials {
		b.lacking = append(b.lacking, bound)
	}
	if written.key == nil && len(t.PrimaryKey) == 0 && r.ops&^setOf(cdc.Truncate) != 0 {
		b.note("key.missing", r, words("write key: with what must stay in order"), "the table has no primary key, so that all events of the rule wait for each other")
	}
	return bound, nil
}

// publishable: the stream can carry the table's changes.
func (b *binder) publishable(place strictyaml.Value, t *cdc.Table) bool {
	problem, statements, hint := t.Unpublishable()
	if sources := b.viewTables[t.Relation.OID]; len(sources) > 0 {
		hint = fmt.Sprintf("write table: %s, with the view's condition in when", joinNames(sources))
	}
	switch {
	case problem != "":
		b.propose("table.unpublishable", place, -1, remedy{statements, hint}, "%s", problem)
	case t.PartitionRoot != cdc.Name{}:
		b.mistake(place, -1, fmt.Sprintf("write table: %s", t.PartitionRoot), "table %s is a partition: the stream has its rows as those of %s", t.Relation.TableName(), t.PartitionRoot)
	default:
		return true
	}
	return false
}

// checkUse checks one column that a part of a rule depends on.
func (b *binder) checkUse(bound *boundRule, u use, column cdc.Column) {
	if u.shown && bound.denied[u.Name] {
		hint := "remove it from the rule, or from privacy.deny"
		if u.path == "key" && bound.key == nil {
			hint = "write key: with other columns than those of the primary key"
		}
		b.mistake(u.value, u.offset(), hint, "column %q must not be sent: privacy.deny has %s", u.Name, b.denied[bound.table.Relation.OID][u.Name])
	}
	if column.Type.Base().Name == "money" && b.database.MoneyDigits != 2 {
		b.mistake(u.value, u.offset(), "change the column to numeric, or leave it out",
			"column %q is money, with %d decimal digits in this database: the stream has it with 2, which is another value", u.Name, b.database.MoneyDigits)
	}
	if bound.ops.has(cdc.Update) && !u.leaf && !u.Old && u.group == groupWrite && large(column) && bound.table.Relation.ReplicaIdentity != 'f' {
		b.noteFull("identity.large", bound, "%s uses column %q, whose large values are not sent with an update that does not touch them: such changes are parked", u.path, u.Name)
	}
}

// large: values of the column may be stored out of line.
func large(c cdc.Column) bool {
	t := c.Type.Base()
	if t.Kind == cdc.KindArray {
		return true
	}
	return c.TypeMod < 0 && slices.Contains([]string{"text", "varchar", "json", "jsonb", "bytea", "xml"}, t.Name)
}

// offset is where the use's expression first mentions the column, -1 if it
// cannot be found.
func (u use) offset() int {
	if i := mention(u.text, "old", u.Name); u.Old && i >= 0 {
		return i
	}
	return mention(u.text, "", u.Name)
}
