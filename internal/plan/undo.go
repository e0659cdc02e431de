package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// Undo is the way back from what a record holds of one database.
type Undo struct {
	Database string `json:"database"`
	// Steps are in the order in which they are run.
	Steps []UndoStep `json:"steps"`
	Count
	// Elsewhere is how many statements the record has of other servers, which have another
	// system identifier: they are not taken back here. A server that pg_upgrade has made is one.
	Elsewhere int `json:"elsewhere,omitempty"`

	options Options
	record  *Record
}

// UndoStep takes one statement back.
type UndoStep struct {
	SQL    string     `json:"sql"`
	Action cdc.Action `json:"action"`
	Who    cdc.Who    `json:"who"`
	// Of is the statement that it takes back, and Unsure says that it is not known whether
	// that was run.
	Of      string `json:"of"`
	Unsure  bool   `json:"unsure,omitempty"`
	Warning string `json:"warning,omitempty"`

	entry entry
}

// Undo returns the way back from what the record has of the connection's database.
func (r *Record) Undo(ctx context.Context, conn *pgx.Conn, o Options) (*Undo, error) {
	is, err := cdc.LoadIdentity(ctx, conn)
	if err != nil {
		return nil, err
	}
	u := &Undo{Database: is.Database, Steps: []UndoStep{}, options: o, record: r}
	for _, e := range slices.Backward(r.entries) {
		if e.System != is.SystemID && e.Undo != "" && (e.State == begun || e.State == done) {
			u.Elsewhere++
		}
		if e.System != is.SystemID || e.Database != is.Database || e.Undo == "" || e.State != begun && e.State != done {
			continue
		}
		back := cdc.Statement{SQL: e.Undo}
		s := UndoStep{SQL: e.Undo, Action: back.Action(), Of: e.SQL, Unsure: e.State == begun, entry: e}
		if e.Who != nil {
			s.Who = *e.Who
		}
		if strings.HasPrefix(s.SQL, "SELECT pg_drop_replication_slot") {
			s.Warning = "changes that gancho has not read are lost to the receivers, and later ones are not captured"
		}
		u.add(s.Action)
		u.Steps = append(u.Steps, s)
	}
	return u, nil
}

// Text is the way back for people. It ends with a line break.
func (u *Undo) Text() string {
	var b strings.Builder
	if len(u.Steps) > 0 {
		fmt.Fprintf(&b, "Database %s, the way back:\n\n", u.Database)
	}
	for _, s := range u.Steps {
		fmt.Fprintf(&b, "%s %s\n    who: %s\n    takes back: %s\n", signs[s.Action], s.SQL, s.Who, s.Of)
		if s.Unsure {
			b.WriteString("    unsure: gancho plan was killed while it ran; what was not done is passed over\n")
		}
		if s.Warning != "" {
			fmt.Fprintf(&b, "    warning: %s\n", s.Warning)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s\n", u.String())
	if u.Elsewhere > 0 {
		fmt.Fprintf(&b, "%d statements of the record were run on another server, such as the one before a pg_upgrade, and are not taken back here: see docs/operations.md, Removing Gancho.\n", u.Elsewhere)
	}
	return b.String()
}

// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	codeDependentObjects = "2BP01" // dependent_objects_still_exist
	codeUndefinedSchema  = "3F000" // invalid_schema_name
)

// errKept: a step is passed over, because the object is no longer what the plan made of it.
var errKept = errors.New("kept")

// Apply runs the steps, and stops at the first that fails. What somebody else has changed
// since is kept, and told to say.
func (u *Undo) Apply(ctx context.Context, conn *pgx.Conn, say func(format string, args ...any)) error {
	run := runner{conn, u.options, say}
	release, err := run.alone(ctx)
	if err != nil {
		return err
	}
	defer release()
	for i, s := range u.Steps {
		err := run.back(ctx, &s.entry)
		switch code := cdc.SQLState(err); {
		case err == nil:
			say("%d of %d done: %s", i+1, len(u.Steps), s.SQL)
		case errors.Is(err, errKept):
			say("%d of %d passed over: %s: %v", i+1, len(u.Steps), s.SQL, err)
			if !s.Unsure {
				continue // it is offered again
			}
		case code == cdc.CodeUndefinedObject || code == cdc.CodeUndefinedTable || code == codeUndefinedSchema:
			say("%d of %d passed over: %s: it is gone already", i+1, len(u.Steps), s.SQL)
		case code == codeDependentObjects && strings.HasPrefix(s.SQL, "DROP ROLE "):
			return fmt.Errorf("stopped at step %d of %d, %s: %w; %d done. It owns something, or has privileges: if that is the schema gancho, DROP SCHEMA gancho CASCADE; deletes the endpoints, dead letters and logs; then run gancho plan --undo again", i+1, len(u.Steps), strings.TrimSuffix(s.SQL, ";"), err, i)
		default:
			return fmt.Errorf("stopped at step %d of %d, %s: %w; %d done. Run gancho plan --undo again when that is solved", i+1, len(u.Steps), strings.TrimSuffix(s.SQL, ";"), err, i)
		}
		if err := u.record.end(s.entry.Number, undone); err != nil {
			return err
		}
	}
	return nil
}

// back takes one statement back, unless its object is no longer what it was made.
func (run *runner) back(ctx context.Context, e *entry) error {
	var keep string
	var err error
	switch {
	case strings.HasPrefix(e.Undo, "ALTER TABLE ") && strings.Contains(e.Undo, " REPLICA IDENTITY "):
		keep, err = run.otherIdentity(ctx, e)
	case strings.HasPrefix(e.Undo, "DROP PUBLICATION "):
		keep, err = run.otherMembers(ctx, e)
	case strings.HasPrefix(e.Undo, "DROP SCHEMA "):
		keep, err = run.usedSchema(ctx, e)
	case strings.HasPrefix(e.Undo, "DROP INDEX "):
		keep, err = run.usedIndex(ctx, e)
	}
	if err == nil && keep != "" {
		err = fmt.Errorf("%w, because %s", errKept, keep)
	}
	if err != nil {
		return err
	}
	return run.do(ctx, e.Undo, e.SQL, e.Tables)
}

// otherIdentity says that the table's identity is no longer the one that was set. It is asked before each
// statement, not once for all: the steps before have changed it, too.
func (run *runner) otherIdentity(ctx context.Context, e *entry) (string, error) {
	var now []cdc.Statement
	for _, t := range e.Tables {
		name, err := cdc.ParseName(t)
		if err != nil {
			return "", err
		}
		now = append(now, cdc.IdentityFull(name))
	}
	now, err := cdc.ResolveOwners(ctx, run.conn, run.options.Encoding, now)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(now, func(s cdc.Statement) bool { return s.Undo != e.SQL }) {
		return "the table's replica identity is not the one that was set", nil
	}
	return "", nil
}

// otherMembers says that a publication has tables that the plan did not put into it.
func (run *runner) otherMembers(ctx context.Context, e *entry) (string, error) {
	name := strings.TrimSuffix(strings.TrimPrefix(e.Undo, "DROP PUBLICATION "), ";")
	rows, _ := run.conn.Query(ctx, `
		select format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_publication p join pg_catalog.pg_publication_rel r on r.prpubid = p.oid
		join pg_catalog.pg_class c on c.oid = r.prrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where quote_ident(p.pubname) = $1 order by 1`, name)
	members, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("read the tables of publication %s: %w", name, err)
	}
	members = slices.DeleteFunc(members, func(m string) bool { return slices.Contains(e.Tables, m) })
	if len(members) > 0 {
		return "the publication has tables that the plan did not add: " + strings.Join(members, ", "), nil
	}
	return "", nil
}

// usedSchema says that a schema is not empty.
func (run *runner) usedSchema(ctx context.Context, e *entry) (string, error) {
	name := strings.TrimSuffix(strings.TrimPrefix(e.Undo, "DROP SCHEMA "), ";")
	var used bool
	err := run.conn.QueryRow(ctx, "select exists (select from pg_catalog.pg_class where relnamespace = pg_catalog.to_regnamespace($1))", name).Scan(&used)
	if err != nil || !used {
		return "", err
	}
	return fmt.Sprintf("it has gancho's endpoints, dead letters and logs; DROP SCHEMA %s CASCADE; deletes them", name), nil
}

// usedIndex says that an index is the replica identity of its table.
func (run *runner) usedIndex(ctx context.Context, e *entry) (string, error) {
	name := strings.TrimSuffix(strings.TrimPrefix(e.Undo, "DROP INDEX CONCURRENTLY "), ";")
	var used bool
	err := run.conn.QueryRow(ctx, "select exists (select from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indrelid where indexrelid = to_regclass($1) and indisreplident and relreplident = 'i')", name).Scan(&used)
	if err != nil || !used {
		return "", err
	}
	return "it is the table's replica identity, without which UPDATE and DELETE would fail", nil
}
