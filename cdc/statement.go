package cdc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Statement is SQL that a person runs in the source: the one form in which anything of
// Gancho proposes it. It has no row data and no secret.
type Statement struct {
	// SQL is one statement, or several that belong together; each ends with a semicolon.
	SQL string `json:"sql"`
	Who Who    `json:"who"`
	// Why is what it is for or what it costs, where the finding does not say so.
	Why string `json:"why,omitempty"`
	// Undo takes it back; "" where nothing does.
	Undo string `json:"undo,omitempty"`

	step step
	// needs are the objects whose owner must run it; none: a superuser.
	needs []object
	// creates: it also needs CREATE on the database.
	creates bool
	// identity: it changes the replica identity of the one table that it needs, to the columns
	// key if it is an index.
	identity bool
	key      []string
	// byCreate: gancho run --create runs it, too, if the role may.
	byCreate bool
}

// Who must run a statement.
type Who struct {
	// Role is the name of the role; "" where any superuser does, and while it is not
	// known because the source was not asked.
	Role string `json:"role,omitempty"`
	// Owns is what the role must own, such as public.clientes; "" for a superuser.
	Owns string `json:"owns,omitempty"`
}

// String names the role for people.
func (w Who) String() string {
	switch {
	case w.Role != "" && w.Owns != "":
		return w.Role + ", the owner of " + w.Owns
	case w.Role != "":
		return w.Role
	case w.Owns != "":
		return "the owner of " + w.Owns
	}
	return "a superuser"
}

// same reports whether one person runs the statements of both. Of owners that are not
// known that is taken for granted.
func (w Who) same(o Who) bool {
	return w.Role == o.Role && (w.Role != "" || (w.Owns == "") == (o.Owns == ""))
}

// step is when a statement must run: each may need what those before it did.
type step uint8

const (
	stepServer step = iota
	stepRole
	stepGrant
	stepTable
	stepOption   // of a publication, before the identities that need it
	stepIndex    // which an identity needs
	stepIdentity // before the table is published: else the application's UPDATE fails meanwhile
	stepNarrow   // before tables are added that must not have more: else theirs fail
	stepPublication
	stepMove  // of tables, once the publication exists into which they go
	stepWiden // once the tables have left for which that is too much: else theirs fail
	stepSlot  // after the publications: see createSlot
	// What the rules no longer need: see release.go.
	stepLeave
	stepRestore
	stepDropIndex
)

// object is what a role may have to own: t table, s schema, f function, p publication,
// d the database; r is the role of the connection itself, if it may replicate.
type object struct {
	kind         byte
	schema, name string
	oid          uint32
}

func tableObject(n Name) object { return object{kind: 't', schema: n.Schema, name: n.Name} }

func publicationObject(name string) object { return object{kind: 'p', name: name} }

func (o object) String() string {
	switch o.kind {
	case 't':
		return Name{o.schema, o.name}.String()
	case 's':
		return "schema " + QuoteIdentifier(o.name)
	case 'f':
		return "function " + o.name
	case 'p':
		return "publication " + QuoteIdentifier(o.name)
	case 'd':
		return "the database"
	}
	return ""
}

// about is a statement that the owner of the objects must run.
func about(s Statement, needs ...object) Statement {
	var names []string
	for _, o := range needs {
		if name := o.String(); name != "" {
			names = append(names, name)
		}
	}
	s.needs, s.Who.Owns = needs, strings.Join(names, ", ")
	return s
}

// IdentityFull makes the server send whole old rows of a table.
func IdentityFull(table Name) Statement { return identityStatement(table, "FULL") }

func identityStatement(table Name, kind string) Statement {
	return about(Statement{SQL: fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s;", table, kind), step: stepIdentity, identity: true}, tableObject(table))
}

// SetLogged writes the changes of an unlogged table to the WAL.
func SetLogged(table Name) Statement {
	alter := fmt.Sprintf("ALTER TABLE %s SET ", table)
	return about(Statement{SQL: alter + "LOGGED;", Why: "it writes the whole table again, under a lock", Undo: alter + "UNLOGGED;", step: stepTable}, tableObject(table))
}

// PublishGenerated has a publication publish stored generated columns (18 and newer).
func PublishGenerated(publication string) Statement {
	alter := fmt.Sprintf("ALTER PUBLICATION %s SET (publish_generated_columns = ", QuoteIdentifier(publication))
	return about(Statement{SQL: alter + "stored);", Undo: alter + "none);", step: stepOption}, publicationObject(publication))
}

// RepublishTable takes a table out of a publication and adds it again, whole, in one
// transaction, so that no change is missed between the two. ONLY leaves tables that inherit
// from it where they are.
func RepublishTable(publication string, table Name) Statement {
	alter := "ALTER PUBLICATION " + QuoteIdentifier(publication)
	return about(Statement{SQL: fmt.Sprintf("BEGIN; %s DROP TABLE ONLY %s; %[1]s ADD TABLE ONLY %[2]s; COMMIT;", alter, table), step: stepPublication}, publicationObject(publication), tableObject(table))
}

// MoveTable takes a table from one publication into another, in one transaction, so that no
// change is missed between the two. Tables that inherit from it stay where they are: without
// ONLY the server refuses to drop one that is in no publication, and publishes it otherwise.
func MoveTable(table Name, from, to string) Statement {
	move := func(from, to string) string {
		return fmt.Sprintf("BEGIN; ALTER PUBLICATION %s DROP TABLE ONLY %s; ALTER PUBLICATION %s ADD TABLE ONLY %[2]s; COMMIT;", QuoteIdentifier(from), table, QuoteIdentifier(to))
	}
	return about(Statement{SQL: move(from, to), Undo: move(to, from), step: stepMove}, publicationObject(from), publicationObject(to), tableObject(table))
}

// GrantUsage lets a role use a schema.
func GrantUsage(schema, role string) Statement {
	on := fmt.Sprintf("USAGE ON SCHEMA %s", QuoteIdentifier(schema))
	return grant(on, role, object{kind: 's', name: schema})
}

// GrantSelect lets a role read a table, or some of its columns.
func GrantSelect(table Name, columns []string, role string) Statement {
	list := ""
	if len(columns) > 0 {
		list = " (" + strings.Join(quoteIdentifiers(columns), ", ") + ")"
	}
	return grant(fmt.Sprintf("SELECT%s ON %s", list, table), role, tableObject(table))
}

// GrantExecute lets a role call a function, which signature names as regprocedure does.
func GrantExecute(oid uint32, signature, role string) Statement {
	return grant("EXECUTE ON FUNCTION "+signature, role, object{kind: 'f', name: signature, oid: oid})
}

func grant(what, role string, of object) Statement {
	role = QuoteIdentifier(role)
	return about(Statement{SQL: fmt.Sprintf("GRANT %s TO %s;", what, role), Undo: fmt.Sprintf("REVOKE %s FROM %s;", what, role), step: stepGrant}, of)
}

// AlterRole gives a role an attribute, which only a superuser may.
func AlterRole(role, attribute string) Statement {
	alter := "ALTER ROLE " + QuoteIdentifier(role)
	return Statement{SQL: alter + " " + attribute + ";", Undo: alter + " NO" + attribute + ";", step: stepRole}
}

// CreateRole creates a role that may log in, without a password: that is for a person.
func CreateRole(role string, attributes ...string) Statement {
	name := QuoteIdentifier(role)
	return Statement{SQL: strings.Join(append([]string{"CREATE ROLE " + name + " LOGIN"}, attributes...), " ") + ";", Undo: "DROP ROLE " + name + ";", step: stepRole}
}

// CreateSchema gives a role a schema of its own, which needs no CREATE on the database.
func CreateSchema(schema, role string) Statement {
	name := QuoteIdentifier(schema)
	return Statement{SQL: fmt.Sprintf("CREATE SCHEMA %s AUTHORIZATION %s;", name, QuoteIdentifier(role)), Undo: fmt.Sprintf("DROP SCHEMA %s;", name), step: stepGrant}
}

// GrantConnect lets a role connect to a database.
func GrantConnect(database, role string) Statement {
	return grant("CONNECT ON DATABASE "+QuoteIdentifier(database), role, object{kind: 'd'})
}

// AlterSystem changes a setting of the server.
func AlterSystem(name, value string) Statement {
	return Statement{SQL: fmt.Sprintf("ALTER SYSTEM SET %s = %s;", name, quoteLiteral(value)), Undo: fmt.Sprintf("ALTER SYSTEM RESET %s;", name), step: stepServer}
}

// ResolveOwners asks the source who owns what the statements are about, and with that who
// must run them, and how tables identify their rows now, which undoes a change of that.
// It returns the statements, completed. It is one query, which leaves no prepared
// statement behind a pooler.
func ResolveOwners(ctx context.Context, conn *pgx.Conn, encoding Encoding, statements []Statement) ([]Statement, error) {
	var all []object
	for _, s := range statements {
		for _, o := range s.needs {
			if !slices.Contains(all, o) {
				all = append(all, o)
			}
		}
	}
	if len(all) == 0 {
		return statements, nil
	}
	owners, err := readOwners(ctx, conn, encoding, all)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(statements)
	for i := range out {
		out[i].resolve(owners)
	}
	return out, nil
}

// ResolveFindings completes the statements of findings in place, as [ResolveOwners] does, with one query
// for all.
func ResolveFindings(ctx context.Context, conn *pgx.Conn, encoding Encoding, findings []Finding) error {
	all, err := ResolveOwners(ctx, conn, encoding, Statements(findings))
	if err != nil {
		return err
	}
	for i := range findings {
		n := len(findings[i].Statements)
		findings[i].Statements, all = all[:n:n], all[n:]
	}
	return nil
}

// owner is who owns an object, and what undoes a change of a table's identity.
type owner struct {
	Role                string
	Superuser, MayMake  bool
	Identity, IndexName string
	// Ours: the session's role has what the owner has. OursMakes: it has CREATE on the database.
	Ours, OursMakes bool
}

func readOwners(ctx context.Context, conn *pgx.Conn, encoding Encoding, all []object) (map[object]owner, error) {
	var kinds, schemas, names []string
	var oids []string
	for _, o := range all {
		kinds, schemas, names, oids = append(kinds, string(o.kind)), append(schemas, encoding.Encode(o.schema)), append(names, encoding.Encode(o.name)), append(oids, strconv.FormatUint(uint64(o.oid), 10))
	}
	rows, _ := conn.Query(ctx, `
		select coalesce(`+encoding.SQL("r.rolname::text")+`, ''), coalesce(r.rolsuper, false), coalesce(has_database_privilege(r.oid, current_database(), 'CREATE'), false),
			coalesce(c.relreplident::text, ''), coalesce(`+encoding.SQL("ix.relname::text")+`, ''),
			coalesce(pg_has_role(r.oid, 'USAGE'), false), has_database_privilege(current_database(), 'CREATE')
		from unnest($1::text[], $2::text[], $3::text[], $4::text[]::oid[]) with ordinality o(kind, space, name, oid, n)
		join pg_catalog.pg_database d on d.datname = current_database()
		left join pg_catalog.pg_namespace s on o.kind in ('t', 's') and s.nspname = case o.kind when 's' then o.name else o.space end
		left join pg_catalog.pg_class c on o.kind = 't' and c.relnamespace = s.oid and c.relname = o.name
		left join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisreplident and c.relreplident = 'i'
		left join pg_catalog.pg_class ix on ix.oid = i.indexrelid
		left join pg_catalog.pg_proc f on o.kind = 'f' and f.oid = o.oid
		left join pg_catalog.pg_publication p on o.kind = 'p' and p.pubname = o.name
		left join pg_catalog.pg_roles g on g.oid = case o.kind when 't' then c.relowner when 's' then s.nspowner when 'f' then f.proowner when 'p' then p.pubowner when 'd' then d.datdba
			else (select oid from pg_catalog.pg_roles where rolname = current_user and (rolreplication or rolsuper)) end
		left join pg_catalog.pg_roles r on r.oid = case when g.rolname = 'pg_database_owner' then d.datdba else g.oid end
		order by o.n`, pgx.QueryExecModeExec, kinds, schemas, names, oids) // CollectRows returns its error
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[owner])
	if err != nil {
		return nil, fmt.Errorf("read who owns what is to be changed: %w", unreadable(err))
	}
	owners := map[object]owner{}
	for i, o := range all {
		owners[o] = found[i]
	}
	return owners, nil
}

// resolve finds the one role that owns all that the statement needs, or a superuser that
// owns some of it. Without one any superuser must run it.
func (s *Statement) resolve(owners map[object]owner) {
	if len(s.needs) == 0 {
		return
	}
	if s.identity {
		s.Undo = undoIdentity(s.needs[0], owners[s.needs[0]])
	}
	of := owners[s.needs[0]]
	for _, o := range s.needs {
		may := owners[o].Ours || o.kind == 'd' && s.creates // it needs no more of the database than CREATE
		s.byCreate = s.byCreate && may && (!s.creates || owners[o].OursMakes)
	}
	agreed := true
	for _, o := range s.needs[1:] {
		switch found := owners[o]; {
		case of.Superuser && found.Role != "":
		case found.Superuser:
			of = found
		default:
			agreed = agreed && found.Role == of.Role
		}
	}
	if agreed = agreed || of.Superuser; agreed && of.Role != "" && (!s.creates || of.MayMake) {
		s.Who.Role = of.Role
	} else {
		s.Who = Who{}
	}
}

func undoIdentity(table object, of owner) string {
	kinds := map[string]string{"d": "DEFAULT", "n": "NOTHING", "f": "FULL", "i": "USING INDEX " + QuoteIdentifier(of.IndexName)}
	if kinds[of.Identity] == "" {
		return ""
	}
	return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s;", table, kinds[of.Identity])
}

// Gather returns the statements without repetitions, in an order in which they work and in
// which the application works after each: those for the same role stand together as far as
// that allows.
func Gather(statements []Statement) []Statement {
	var out []Statement
	for _, s := range statements {
		if !slices.ContainsFunc(out, func(o Statement) bool { return o.SQL == s.SQL }) {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b Statement) int { return cmp.Compare(a.step, b.step) })
	// Those of one step need nothing of each other: the role that ran the last one, be it of the
	// step before, goes on.
	for i := 1; i < len(out); i++ {
		for j := i; j < len(out) && out[j].step == out[i].step; j++ {
			if out[j].Who.same(out[i-1].Who) {
				next := out[j]
				copy(out[i+1:j+1], out[i:j])
				out[i] = next
				break
			}
		}
	}
	return out
}

// Script is SQL that can be copied and run: the statements as [Gather] orders them, with
// comments that say who must run them, and why. It ends with a line break; "" without any.
func Script(statements []Statement) string {
	var b strings.Builder
	all := Gather(statements)
	why := ""
	for i, s := range all {
		if i == 0 || !s.Who.same(all[i-1].Who) {
			why = ""
			fmt.Fprintf(&b, "-- as %s:\n", headOf(all[i:]))
		}
		if s.Why != "" && s.Why != why {
			fmt.Fprintf(&b, "-- %s\n", s.Why)
		}
		why = s.Why
		b.WriteString(s.SQL + "\n")
	}
	return b.String()
}

// Instructions are the [Script] with what to do with it, to be printed behind findings; ""
// without statements. created: gancho run --create could not do it.
func Instructions(statements []Statement, created bool) string {
	if len(statements) == 0 {
		return ""
	}
	text := "run this in the source database"
	if !created && !slices.ContainsFunc(statements, func(s Statement) bool { return !s.byCreate }) {
		text += ", or let gancho run --create do it"
	}
	return text + ":\n" + Script(statements)
}

// headOf names the role of the first statements, and what it owns of those that follow
// for the same role.
func headOf(statements []Statement) string {
	who := statements[0].Who
	var owns []string
	for _, s := range statements {
		if !s.Who.same(who) {
			break
		}
		for _, o := range s.needs {
			if name := o.String(); name != "" && s.Who.Owns != "" && !slices.Contains(owns, name) {
				owns = append(owns, name)
			}
		}
	}
	if n := len(owns) - 3; n > 1 {
		owns = append(owns[:3:3], fmt.Sprintf("%d others", n))
	}
	who.Owns = strings.Join(owns, ", ")
	return who.String()
}
