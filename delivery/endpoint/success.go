package endpoint

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"gancho/internal/strictyaml"
)

// decodeSuccess reads success: {status, body}, of which one must be there.
func decodeSuccess(v value) Success {
	var s Success
	v.Map(
		strictyaml.Optional("status", func(v value) {
			for _, item := range v.ListOrOne() {
				s.Status = append(s.Status, decodeStatus(item))
			}
			if v.IsList() && len(s.Status) == 0 {
				v.Errorf("write such as [200, 202-204]", "no status would count as success")
			}
		}),
		strictyaml.Optional("body", func(v value) {
			s.Body = v.Text()
			checkPattern(s.Body).at(v)
		}),
	)
	if v.IsMap() && len(v.Entries()) == 0 {
		v.Errorf("write status, body or both, or remove the key", "success says nothing")
	}
	return s
}

// decodeStatus reads a status, or a range of them such as 200-204.
func decodeStatus(v value) [2]int {
	text := v.Text()
	if text == "" {
		return [2]int{}
	}
	from, to, ranged := strings.Cut(text, "-")
	if !ranged {
		to = from
	}
	lo, err := strconv.Atoi(from)
	hi, err2 := strconv.Atoi(to)
	if err != nil || err2 != nil || len(from) != 3 || len(to) != 3 {
		noStatus(text).at(v)
	} else {
		checkStatus(lo, hi).at(v)
	}
	return [2]int{lo, hi}
}

// checkStatus: 1xx are not answers yet, and 3xx would have to be followed.
func checkStatus(lo, hi int) *SettingError {
	text := statusText([2]int{lo, hi})
	switch {
	case lo < minStatus || lo > maxStatus || hi < minStatus || hi > maxStatus:
		return noStatus(text)
	case lo > hi:
		return mistakef("write "+statusText([2]int{hi, lo}), "the range %s is empty", text)
	case lo < 200 || lo < 400 && hi >= 300:
		return mistakef("2xx, 4xx and 5xx may count as success", "%s has statuses that are no answer (1xx) or lead elsewhere (3xx)", text)
	}
	return nil
}

func noStatus(text string) *SettingError {
	return mistakef("write such as 200 or 200-204", "%q is not a status", text)
}

func statusText(r [2]int) string {
	if r[0] == r[1] {
		return strconv.Itoa(r[0])
	}
	return strconv.Itoa(r[0]) + "-" + strconv.Itoa(r[1])
}

func checkPattern(text string) *SettingError {
	if len(text) > maxPattern {
		return mistakef("ask for less", "the pattern has %d bytes: at most %d", len(text), maxPattern)
	}
	steps, err := patternSize(text)
	if err != nil {
		return mistakef(`quote it with ' in YAML, so that \ stays as it is`, "the pattern is not a regular expression (RE2): %s",
			strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	if steps > maxPatternSize {
		return mistakef("repeat less: x{1000} counts as 1000 characters", "the pattern is too large: it has %d steps, at most %d, and beyond %d it sees less of an answer than its first %d KiB",
			steps, maxPatternSize, maxPatternWork/maxReach, maxReach>>10)
	}
	return nil
}

// patternSize is how many steps the compiled pattern has.
func patternSize(text string) (int, error) {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0, err
	}
	return len(program.Inst), nil
}

// Reach is how many bytes of an answer Body has to match: 16 KiB, and less for a pattern of
// more than 100 steps, because each byte may take them all. Whoever answers chooses the
// bytes, and all endpoints share the processors.
func (s Success) Reach() int {
	steps, err := patternSize(s.Body)
	if err != nil { // Check reports it
		return 0
	}
	return min(maxReach, maxPatternWork/max(1, steps))
}

// waitedAnswer is the least that Discord says of a message that it has saved.
// https://docs.discord.com/developers/resources/message#message-object
const waitedAnswer = `{"type":0,"content":"","mentions":[],"mention_roles":[],"attachments":[],"embeds":[],"timestamp":"2026-01-02T15:04:05.000000+00:00",` +
	`"edited_timestamp":null,"flags":0,"components":[],"id":"1","channel_id":"1","author":{"id":"1","username":"a","bot":true},"pinned":false,` +
	`"mention_everyone":false,"tts":false,"webhook_id":"1"}`

// takesWaited reports whether the answer of a Discord that is asked to wait, a 200 with the message, may count as delivered. A pattern
// that an empty body matches and a message does not is one for the 204.
func (s Success) takesWaited() bool {
	if len(s.Status) > 0 && !slices.ContainsFunc(s.Status, func(r [2]int) bool { return r[0] <= 200 && 200 <= r[1] }) {
		return false
	}
	pattern, err := regexp.Compile(s.Body)
	return err != nil || !pattern.MatchString("") || pattern.MatchString(waitedAnswer) // Check reports the error
}

func (s Success) document() document {
	d := document{}
	status := make([]string, len(s.Status))
	for i, r := range s.Status {
		status[i] = statusText(r)
	}
	d.add("status", status, len(status) > 0)
	d.add("body", s.Body, s.Body != "")
	return d
}

// equal reports whether both count the same answers as delivered.
func (s Success) equal(o Success) bool { return slices.Equal(s.Status, o.Status) && s.Body == o.Body }

// superlogica is the style of receivers that were written for Superlógica's
// webhooks: they read a form with data[...] and a field validationtoken, and
// answer 200 to everything, with the result in the body.
const superlogica = "superlogica"

// successBody is the answer of such a receiver that has accepted the event:
// {"status":200}, with the number quoted by some.
const successBody = `"status"\s*:\s*"?200"?\b`

// decodeStyle makes the style's settings the defaults of the endpoint's other keys.
func (e *Endpoint) decodeStyle(v value) {
	if !v.IsMap() {
		return
	}
	for _, entry := range v.Entries() {
		if entry.Name == "style" && entry.Value.IsScalar() {
			e.setStyle(entry.Value.Choice(styleNames...))
		}
	}
}

func (e *Endpoint) setStyle(name string) {
	e.Style = name
	if name == superlogica {
		e.Format = FormatForm
		e.Success = Success{Status: [][2]int{{200, 200}}, Body: successBody}
	}
	if e.Chat() != NoChat {
		e.setChat()
	}
}

// checkStyle reports what the style needs and cannot supply.
func (e *Endpoint) checkStyle(v value) {
	if _, ok := e.Extra["validationtoken"]; e.Style != superlogica || ok {
		return
	}
	v.Errorf("write extra: {validationtoken: ...}, with the token that the receiver expects", "the style superlogica needs a validationtoken")
}
