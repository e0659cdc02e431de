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
var sessionWords = []string{"current_user", "session_user", "user", "current_role", "current_catalog", "current_schema", "system_user"}

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
		case t.Is("current_time"):
			return []*expr.Error{{Offset: t.Start, Length: t.End - t.Start, Message: "current_time is the time of the query", Hint: "write localtime, which is the commit's"}}
		case t.Is("u") && isUnicodeLiteral(s.tokens[i:]):
			return []*expr.Error{{Offset: t.Start, Length: s.tokens[i+2].End - t.Start, Message: "U&'...' and U&\"...\" are not supported", Hint: `write E'\u00e9', or the character itself`}}
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
		case isClockText(t) && !s.isCastToText(i):
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

// isUnicodeLiteral reports U&'...' or U&"..." at the beginning of the tokens.
func isUnicodeLiteral(tokens expr.TokenList) bool {
	and, text := tokens.At(1), tokens.At(2)
	return and.Is("&") && and.Start == tokens[0].End && text.Start == and.End && (text.IsString() || text.IsName() && !text.IsWord())
}

// clockWords are what PostgreSQL reads as a time that depends on its clock.
var clockWords = []string{"now", "today", "tomorrow", "yesterday"}

// timeWords are words of more than four letters that may stand beside them: in a time, or
// in an array or range of times.
var timeWords = []string{
	"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "january", "february", "march", "april",
	"august", "september", "october", "november", "december", "infinity", "epoch", "allballs",
}

// isClockText reports whether a token is a string that PostgreSQL may read as a time that
// depends on its clock: 'now()', E'today 10:00', '{infinity,now}'. A word before the clock's
// that no time has makes it a text; one of up to four letters may be a zone.
func isClockText(token expr.Token) bool {
	text, ok := token.Literal()
	if !ok {
		return false
	}
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }) {
		switch {
		case slices.Contains(clockWords, word):
			return true
		case len(word) > 4 && !slices.Contains(timeWords, word):
			return false
		}
	}
	return false
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
		last = closing(s.tokens, i+1)
		return last, s.text[t.Start:s.tokens[last].End]
	case called && (t.Is("current_timestamp") || t.Is("localtimestamp") || t.Is("localtime")): // of so many decimals
		last = closing(s.tokens, i+1)
		of := map[string]string{"current_timestamp": "now()::timestamptz", "localtimestamp": "localtimestamp::timestamp", "localtime": "localtimestamp::time"}
		return last, of[t.Text] + s.text[s.tokens[i+1].Start:s.tokens[last].End]
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
func closing(tokens expr.TokenList, i int) int {
	depth := 0
	for ; ; i++ {
		switch {
		case tokens[i].Is("("):
			depth++
		case tokens[i].Is(")"):
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
