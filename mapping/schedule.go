package mapping

import (
	"slices"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/internal/strictyaml"
	"gancho/internal/timetable"
	"gancho/mapping/expr"
)

// CatchUp says what is done about times of a schedule that have passed while nothing ran.
type CatchUp uint8

// The values of catch_up.
const (
	CatchUpOne  CatchUp = iota // the last of them is made up
	CatchUpAll                 // all are, in order
	CatchUpNone                // none is
)

// schedule is what a rule has that runs a query at its times, instead of a table.
type schedule struct {
	value     strictyaml.Value // the timetable's
	timetable timetable.Timetable
	query     *lookup
	once      []columnRef
	catchUp   CatchUp
}

// scheduleKeys are what a rule with schedule may have; onlyScheduled those that no other has.
var (
	scheduleKeys  = []string{"event", "group", "title", "description", "schedule", "query", "once", "catch_up", "tenant", "key", "data", "columns", "tags", "on_error", "numbers"}
	onlyScheduled = []string{"query", "once", "catch_up"}
)

// scheduleFields reads a schedule's keys into one that the rule gets.
func (r *rule) scheduleFields() []strictyaml.Field {
	s := &schedule{}
	return []strictyaml.Field{
		strictyaml.Optional("schedule", func(v strictyaml.Value) { r.schedule, s.value, s.timetable = s, v, parseTimetable(v) }),
		strictyaml.Optional("query", func(v strictyaml.Value) {
			s.query = &lookup{scheduled: true}
			s.query.parse(v)
		}),
		strictyaml.Optional("once", func(v strictyaml.Value) { s.once = columnRefs(v, "once") }),
		strictyaml.Optional("catch_up", func(v strictyaml.Value) {
			s.catchUp = CatchUp(max(0, slices.Index([]string{"one", "all", "none"}, v.Choice("one", "all", "none"))))
		}),
	}
}

func parseTimetable(v strictyaml.Value) timetable.Timetable {
	var t timetable.Timetable
	var err error
	if v.IsMap() {
		v.Map(strictyaml.Required("cron", func(v strictyaml.Value) {
			if text := v.Raw(); text != "" {
				t, err = timetable.ParseCron(text)
			}
		}))
	} else if text := v.Raw(); text != "" {
		t, err = timetable.Parse(text)
	}
	if err != nil {
		v.Errorf(timetable.Hint, "schedule: %v", err)
	}
	return t
}

// checkSchedule checks which keys stand together.
func (r *rule) checkSchedule() {
	for _, e := range r.value.Entries() {
		switch {
		case r.schedule != nil && !slices.Contains(scheduleKeys, e.Name):
			e.Key.Errorf("remove it: the query says which rows make events, and reads all that they need", "a rule with schedule has no %s", e.Name)
		case r.schedule == nil && slices.Contains(onlyScheduled, e.Name):
			e.Key.Errorf("remove it, or write schedule: in the place of table: and on:", "%s is of rules with schedule", e.Name)
		}
	}
	required := []string{"table", "on"}
	if r.schedule != nil {
		required = []string{"query"}
	}
	for _, key := range required {
		if !slices.ContainsFunc(r.value.Entries(), func(e strictyaml.Entry) bool { return e.Name == key }) {
			r.value.Errorf("", "the key %q is missing", key)
		}
	}
}

// checkSchedules refuses two rules with schedule of one event: what they have sent, and when they ran, is known by it.
func checkSchedules(rules []*rule) strictyaml.Errors {
	var errs strictyaml.Errors
	first := map[string]*rule{}
	for _, r := range rules {
		switch given := first[r.event]; {
		case r.schedule == nil || r.event == "":
		case given == nil:
			first[r.event] = r
		default:
			errs = append(errs, r.schedule.value.Mistake(-1, "join the queries with UNION ALL, or give one of the events another name",
				"event %s has another rule with schedule, at %s", r.event, given.place()))
		}
	}
	return errs
}

// timesOfDay are the functions, and the words, by which SQL asks for the time, with the type of each. They stand for the
// scheduled time in the query of a schedule.
var (
	timeFunctions = []string{"now", "transaction_timestamp", "statement_timestamp"}
	sqlTimes      = map[string]string{"current_timestamp": "timestamptz", "localtimestamp": "timestamp", "current_date": "date", "current_time": "timetz", "localtime": "time"}
	// serverClock are those that say something else each time.
	serverClock = []string{"clock_timestamp", "timeofday"}
)

// timeEdit is a part of a query that stands for the scheduled time, as a type; age: it is what age(x) counts from.
type timeEdit struct {
	start, end int
	as         string
	age        bool
}

// parseScheduledSQL finds where a query asks for the time, unless it has a fault as the query of a lookup.
func parseScheduledSQL(text string, end int, fault *expr.Error) ([]timeEdit, *expr.Error) {
	if fault == nil {
		return timesIn(text[:end])
	}
	out := *fault
	out.Message = strings.Replace(out.Message, "a lookup is", "a schedule runs", 1)
	if strings.Contains(out.Hint, "new.") {
		out.Hint = "write select ... from ..."
	}
	return nil, &out
}

// timesIn finds where a query asks for the time. What only the server could answer is a fault.
func timesIn(sql string) ([]timeEdit, *expr.Error) {
	tokens, fault := expr.Tokens(sql)
	if fault != nil {
		return nil, fault
	}
	var out []timeEdit
	for i, t := range tokens {
		start := t.Start
		qualified := tokens.At(i - 1).Is(".")
		if qualified && tokens.At(i-2).Is("pg_catalog") {
			start, qualified = tokens[i-2].Start, false
		}
		as, called := sqlTimes[t.Text], tokens.At(i+1).Is("(")
		switch {
		case isClockText(t) && !(tokens.At(i+1).Is("::") && tokens.At(i+2).Is("text")):
			return nil, &expr.Error{Offset: t.Start, Message: t.Text + " may be read as the server's time, which is not the scheduled one", Hint: "write now(), or current_date; of a text, write ::text behind it"}
		case !t.IsName() || qualified:
		case called && slices.Contains(serverClock, t.Text):
			return nil, &expr.Error{Offset: t.Start, Message: t.Text + "() is the server's clock, and not the scheduled time", Hint: "write now()"}
		case called && slices.Contains(timeFunctions, t.Text) && tokens.At(i+2).Is(")"):
			out = append(out, timeEdit{start, tokens[i+2].End, "timestamptz", false})
		case called && t.Is("age") && countArguments(tokens[i+1:]) == 1:
			out = append(out, timeEdit{tokens[i+1].End, tokens[i+1].End, "date", true})
		case t.IsWord() && as != "" && start == t.Start && !tokens.At(i-1).Is("as"):
			end := t.End
			if called && tokens.At(i+3).Is(")") { // a precision: the scheduled time is a whole second
				end = tokens[i+3].End
			}
			out = append(out, timeEdit{start, end, as, false})
		}
	}
	return out, nil
}

// countArguments counts those of a call whose opening parenthesis comes first.
func countArguments(tokens []expr.Token) int {
	depth, n := 0, 1
	for i, t := range tokens {
		switch {
		case t.Is("("), t.Is("["):
			depth++
		case t.Is(")"), t.Is("]"):
			if depth--; depth == 0 {
				if i == 1 {
					return 0
				}
				return n
			}
		case t.Is(",") && depth == 1:
			n++
		}
	}
	return n
}

// timeEdits are what the query has for the scheduled time.
func (l *lookup) timeEdits(at time.Time) []edit {
	when := "pg_catalog.timestamptz " + literal(at.UTC().Format("2006-01-02 15:04:05+00"))
	return mapped(l.times, func(t timeEdit) edit {
		text := "(" + when + ")::pg_catalog." + t.as
		if t.age {
			text += ", "
		} else {
			text = "(" + text + ")"
		}
		return edit{t.start, t.end, text}
	})
}

// scheduledSQL is the query of a schedule at a time, as the only column list of a subquery: PostgreSQL has nothing but a
// SELECT there. Without columns it has all. What prepares it has it return no row: the server then reads none.
func (l *lookup) scheduledSQL(at time.Time, edits []edit, columns []cdc.Column, more string) (string, []piece) {
	var b strings.Builder
	b.WriteString("select 1 as _n")
	for _, c := range columns {
		b.WriteString(", _r." + quoted(c.Name))
	}
	if len(columns) == 0 {
		b.WriteString(", _r.*")
	}
	b.WriteString(" from (\n")
	pieces := l.copySQL(&b, append(slices.Clone(edits), l.timeEdits(at)...))
	b.WriteString("\n) _r" + more)
	return b.String(), pieces
}

// scheduledOps are those of the row that a schedule's expressions see.
var scheduledOps = setOf(cdc.Insert)

// on is what the rule fires on, for people.
func (r *rule) tableText() string {
	if r.schedule != nil {
		return ""
	}
	return r.table.String()
}

func (r *rule) scheduleText() string {
	if r.schedule == nil {
		return ""
	}
	return r.schedule.timetable.String()
}
