package mapping

import (
	"slices"
	"strings"
	"unicode"

	"gancho/mapping/expr"
)

// What the text of an expression that the source evaluates says by its tokens: its conjuncts,
// and what in it would be of Gancho's session or of the query's time.

// span is a part of a text.
type span struct{ from, to int }

// conjuncts are the operands of the ANDs at the top of a condition, without those of
// BETWEEN, and one span where OR or nothing stands there.
func conjuncts(text string) []span {
	tokens, _ := expr.Tokens(text)
	whole := []span{{0, len(text)}}
	depth, from, betweens := 0, 0, 0
	var spans []span
	for i, t := range tokens {
		switch {
		case tokens.At(i - 1).Is("."): // a column may have the name of any keyword
		case t.Is("("), t.Is("["), t.Is("case"):
			depth++
		case t.Is(")"), t.Is("]"), t.Is("end"):
			depth--
		case depth > 0:
		case t.Is("or"):
			return whole
		case t.Is("between"):
			betweens++
		case t.Is("and") && betweens > 0:
			betweens--
		case t.Is("and"):
			spans = append(spans, span{from, t.Start})
			from = t.End
		}
	}
	return append(spans, span{from, len(text)})
}

// only is a text with blanks for what is outside of a span, so that offsets stay.
func only(text string, s span) string {
	return strings.Repeat(" ", s.from) + text[s.from:s.to] + strings.Repeat(" ", len(text)-s.to)
}

// blank removes a conjunct and the AND that joins it to what is before it, or behind the
// first ones.
func blank(text []byte, s span, all []span, i int) {
	from, to := s.from, s.to
	if i > 0 {
		from = all[i-1].to
	}
	if i+1 < len(all) && strings.TrimSpace(string(text[:from])) == "" {
		to = all[i+1].from
	}
	for at := from; at < to; at++ {
		text[at] = ' '
	}
}

// scanner finds in an expression what its query takes from the change.
type scanner struct {
	*delegator
	text   string
	tokens expr.TokenList
	params []sqlParam
	joins  []*boundLookup
}

// sessionWords are keywords for what the session has, and sessionHint says why not.
var sessionWords = []string{"current_user", "session_user", "user", "current_role", "current_catalog", "current_schema"}

const sessionHint = "the change does not say which session made it; leave it out"

func (s *scanner) scan() []*expr.Error {
	var fault *expr.Error
	if s.tokens, fault = expr.Tokens(s.text); fault != nil {
		return []*expr.Error{fault}
	}
	if fault := balanced(s.tokens); fault != nil {
		return []*expr.Error{fault}
	}
	for i := 0; i < len(s.tokens); i++ {
		t, next := s.tokens[i], s.tokens.At(i+1)
		if s.tokens.At(i - 1).Is(".") {
			continue
		}
		last, local := s.ownTerm(i)
		switch {
		case local != "":
		case t.IsWord() && slices.Contains(sessionWords, t.Text):
			return []*expr.Error{{Offset: t.Start, Length: t.End - t.Start, Message: t.Text + " is that of Gancho's own session", Hint: sessionHint}}
		case t.Is("new") || t.Is("old"):
			if column := s.tokens.At(i + 2); next.Is(".") && column.IsName() {
				last, local = i+2, t.Text+"."+s.text[column.Start:column.End]
				break
			}
			fault := s.wholeRow(i)
			if len(fault) > 0 {
				return fault
			}
		case t.IsName() && next.Is("."):
			for _, l := range s.bound.lookups {
				if l.expression == nil && l.name == t.Text && !slices.Contains(s.joins, l) {
					s.joins = append(s.joins, l)
				}
			}
		case isClockText(t.Text) && !s.isCastToText(i):
			return []*expr.Error{{Offset: t.Start, Length: t.End - t.Start, Message: t.Text + " is the time of the query where a date or a time is expected",
				Hint: "write now() or current_date, which are the commit's, or " + t.Text + "::text for a text"}}
		}
		if local == "" {
			continue
		}
		p, fault := s.param(t.Start, s.tokens[last].End, local)
		for _, m := range fault {
			if m.Unsupported && expr.IsOwn(t.Text) {
				m.Hint = t.Text + "() is evaluated by Gancho, with what is within it; let a lookup do the rest, and give it the lookup's column"
			}
		}
		if len(fault) > 0 {
			return fault
		}
		s.params = append(s.params, *p)
		i = last
	}
	return nil
}

// isClockText reports whether a token is a string that PostgreSQL may read as a time that
// depends on its clock: 'now()', E'today 10:00'. A word before the clock's makes it a text.
func isClockText(token string) bool {
	token = strings.ToLower(token)
	switch {
	case strings.HasPrefix(token, "e'"):
		token = token[1:]
	case strings.HasPrefix(token, "$"):
		_, token, _ = strings.Cut(token[1:], "$")
	case !strings.HasPrefix(token, "'"):
		return false
	}
	words := strings.FieldsFunc(token, func(r rune) bool { return !unicode.IsLetter(r) })
	return len(words) > 0 && slices.Contains([]string{"now", "today", "tomorrow", "yesterday"}, words[0])
}

// isCastToText: a cast to text follows a literal, and no other one follows that.
func (s *scanner) isCastToText(i int) bool {
	typ := s.tokens.At(i + 2)
	return s.tokens.At(i+1).Is("::") && (typ.Is("text") || typ.Is("varchar")) && !s.tokens.At(i+3).Is("::")
}

// ownTerm is what the language evaluates wherever it stands: the time of the commit, and
// functions that PostgreSQL has not. It returns the last token of it.
func (s *scanner) ownTerm(i int) (last int, local string) {
	t := s.tokens[i]
	called := s.tokens.At(i + 1).Is("(")
	switch {
	case !t.IsWord():
	case called && expr.IsOwn(t.Text):
		last = s.closing(i + 1)
		return last, s.text[t.Start:s.tokens[last].End]
	case called && s.tokens.At(i+2).Is(")") && (t.Is("now") || t.Is("transaction_timestamp") || t.Is("statement_timestamp")):
		return i + 2, "now()"
	case t.Is("current_timestamp") || t.Is("current_date") || t.Is("localtimestamp"):
		return i, t.Text
	case t.Is("localtime"):
		return i, "localtimestamp::time"
	}
	return 0, ""
}

// closing is the token that closes the parenthesis at i.
func (s *scanner) closing(i int) int {
	depth := 0
	for ; ; i++ {
		switch {
		case s.tokens[i].Is("("):
			depth++
		case s.tokens[i].Is(")"):
			if depth--; depth == 0 {
				return i
			}
		}
	}
}

// wholeRow adds new or old, without a column, as a value of the table's type.
func (s *scanner) wholeRow(i int) []*expr.Error {
	t := s.tokens[i]
	fault := func(message, hint string) []*expr.Error {
		return []*expr.Error{{Offset: t.Start, Length: t.End - t.Start, Message: message, Hint: hint}}
	}
	table := s.bound.table
	if len(table.Generated) > 0 {
		return fault(t.Text+" has generated columns, and the stream does not carry them", "name the columns")
	}
	p := sqlParam{start: t.Start, end: t.End, rowType: table.Relation.TableName(), old: t.Is("old")}
	if s.tokens.At(i+1).Is(".") && s.tokens.At(i+2).Is("*") {
		p.end = s.tokens[i+2].End
		p.spread = s.tokens.At(i-1).Is("(") && s.tokens.At(i-2).Is("row")
	}
	for _, column := range table.Relation.Columns {
		part, fault := s.param(t.Start, t.End, t.Text+"."+quoted(column.Name))
		if len(fault) > 0 {
			return fault
		}
		p.row = append(p.row, *part)
	}
	s.params = append(s.params, p)
	return nil
}

// balanced: the text cannot end the parenthesis that it is put in.
func balanced(tokens expr.TokenList) *expr.Error {
	depth := 0
	var open expr.Token
	for _, t := range tokens {
		switch {
		case t.IsParameter():
			return &expr.Error{Offset: t.Start, Message: t.Text + " has no value", Hint: "write new.column, or old.column"}
		case t.Is(";"):
			return &expr.Error{Offset: t.Start, Message: "an expression has no semicolon", Hint: "remove it"}
		case t.Is(",") && depth == 0:
			return &expr.Error{Offset: t.Start, Message: "an expression has one value", Hint: "remove the comma"}
		case t.Is("("), t.Is("["):
			if depth == 0 {
				open = t
			}
			depth++
		case t.Is(")"), t.Is("]"):
			if depth--; depth < 0 {
				return &expr.Error{Offset: t.Start, Message: "this parenthesis closes nothing", Hint: "remove it"}
			}
		}
	}
	if depth > 0 {
		return &expr.Error{Offset: open.Start, Message: "a parenthesis is not closed", Hint: "add )"}
	}
	return nil
}
