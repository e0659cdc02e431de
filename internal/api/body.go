package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gancho/delivery/endpoint"
	"gancho/internal/control"
	"gancho/internal/jsontext"
	"gancho/internal/strictyaml"
)

const (
	// MaxBody bounds a request's body, in bytes.
	MaxBody = 1 << 20
	// bodyTime is how long a body may take to arrive.
	bodyTime = 30 * time.Second

	mediaJSON    = "application/json"
	mediaProblem = "application/problem+json"
)

// readBody returns a request's body: one JSON value, or nothing. It reports whether it
// has read all of it.
func readBody(w http.ResponseWriter, r *http.Request, media []string) (body []byte, drained bool, err error) {
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(bodyTime)) // what has no connection (a test's recorder) has no deadline
	src, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	_ = connection.SetReadDeadline(time.Time{})
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, false, &problem{kind: kindTooLarge, Detail: fmt.Sprintf("The body has more than %d bytes.", large.Limit)}
	case err != nil:
		return nil, false, invalid(control.Problem{Message: "the body ended before it was complete"})
	}
	if len(bytes.TrimSpace(src)) == 0 {
		return nil, true, nil
	}
	if len(media) == 0 {
		return nil, true, invalid(control.Problem{Message: "this request takes no body", Hint: "leave it out"})
	}
	if err := checkMedia(r.Header, media); err != nil {
		return nil, true, err
	}
	return src, true, checkJSON(src)
}

// checkMedia accepts the media types, without charset or with the one there is.
func checkMedia(header http.Header, media []string) error {
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return &problem{kind: kindMediaType, Detail: "The body is compressed. Send it as it is, without Content-Encoding."}
	}
	given, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	charset := parameters["charset"]
	if err != nil || !slices.Contains(media, given) || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return &problem{
			kind: kindMediaType, Detail: "The body is not declared to be JSON. Send the header Content-Type: " + strings.Join(media, " or ") + ".",
			header: http.Header{"Accept-Post": {strings.Join(media, ", ")}},
		}
	}
	return nil
}

// checkJSON refuses what is not one JSON value in UTF-8, and what people do not
// mean although it is one.
func checkJSON(src []byte) error {
	if !utf8.Valid(src) {
		return invalid(control.Problem{Message: "the body is not UTF-8"})
	}
	var value json.RawMessage
	if err := json.Unmarshal(src, &value); err != nil {
		m := control.Problem{Message: "the body is not JSON: " + err.Error()}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			m.Line, m.Column = place(src, syntax.Offset)
		}
		return invalid(m)
	}
	var mistakes []control.Problem
	for _, found := range jsontext.Check(src, strictyaml.MaxErrors) {
		m := control.Problem{Pointer: found.Pointer, Message: found.Message, Hint: found.Hint}
		m.Line, m.Column = place(src, found.Offset)
		mistakes = append(mistakes, m)
	}
	if len(mistakes) > 0 {
		return invalid(mistakes...)
	}
	return nil
}

// place is where the byte before an offset is, counted from 1, columns in characters.
func place(src []byte, offset int64) (line, column int) {
	before := src[:min(max(offset-1, 0), int64(len(src)))]
	line = 1 + bytes.Count(before, []byte("\n"))
	return line, 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
}

// member is a key that a body may have.
type member struct {
	name string
	// into is where json.Unmarshal puts its value; expects says what that is.
	into    any
	expects string
	// members: it is an object that has these; into is not used.
	members []member
	// required: the body is refused without it. blank: it may be an empty text or
	// list; other members may not, because those that choose would choose all.
	required, blank bool
}

// decode reads the request's body, an object with these members.
func (c *call) decode(members ...member) error {
	if mistakes := decodeObject("", c.body, members...); len(mistakes) > 0 {
		return invalid(mistakes...)
	}
	return nil
}

// decodeObject reads a JSON object that has no other keys than these, and
// reports everything that is wrong with it, under the pointer at. An empty src
// is an object without keys.
func decodeObject(at string, src []byte, members ...member) []control.Problem {
	var mistakes []control.Problem
	given := map[string]bool{}
	if len(src) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(src))
		if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
			return []control.Problem{{Pointer: at, Message: "this has to be a JSON object", Hint: keys(members)}}
		}
		for decoder.More() && len(mistakes) <= strictyaml.MaxErrors {
			// readBody has checked that it is JSON: nothing fails.
			key, _ := decoder.Token()
			name, _ := key.(string)
			var raw json.RawMessage
			_ = decoder.Decode(&raw)
			if compact := new(bytes.Buffer); json.Compact(compact, raw) == nil {
				raw = compact.Bytes()
			}
			mistakes = append(mistakes, decodeMember(at, name, raw, members)...)
			given[name] = true
		}
	}
	for _, m := range members {
		if m.required && !given[m.name] {
			mistakes = append(mistakes, control.Problem{Pointer: endpoint.Pointer(at, m.name), Message: fmt.Sprintf("%q is missing", m.name), Hint: "it is " + m.expects})
		}
	}
	return mistakes
}

func decodeMember(at, name string, raw json.RawMessage, members []member) []control.Problem {
	i := slices.IndexFunc(members, func(m member) bool { return m.name == name })
	switch {
	case i < 0:
		return []control.Problem{{Pointer: endpoint.Pointer(at, name), Message: fmt.Sprintf("%q is not known here", name), Hint: suggest(name, names(members))}}
	case string(raw) == "null":
		return []control.Problem{{Pointer: endpoint.Pointer(at, name), Message: fmt.Sprintf("%q has to be %s", name, members[i].expects), Hint: members[i].orLeave()}}
	case !members[i].blank && (string(raw) == `""` || string(raw) == "[]"):
		hint := "leave it out"
		if members[i].required {
			hint = "write " + members[i].expects
		}
		return []control.Problem{{Pointer: endpoint.Pointer(at, name), Message: fmt.Sprintf("%q is empty", name), Hint: hint}}
	case members[i].members != nil:
		return decodeObject(endpoint.Pointer(at, name), raw, members[i].members...)
	case json.Unmarshal(raw, members[i].into) != nil:
		return []control.Problem{{Pointer: endpoint.Pointer(at, name), Message: fmt.Sprintf("%q has to be %s", name, members[i].expects)}}
	}
	return nil
}

// orLeave is the hint of a member that need not be there.
func (m *member) orLeave() string {
	if m.required {
		return ""
	}
	return "or leave it out"
}

func keys(members []member) string {
	if len(members) == 0 {
		return "leave the body out"
	}
	return "with the keys " + strings.Join(names(members), ", ")
}

func names(members []member) []string {
	all := make([]string, len(members))
	for i := range members {
		all[i] = members[i].name
	}
	return all
}

// suggest is a hint for a name that is none of those allowed.
func suggest(name string, allowed []string) string {
	if closest := strictyaml.Closest(name, allowed); closest != "" {
		return fmt.Sprintf("did you mean %q? Allowed are %s", closest, strings.Join(allowed, ", "))
	}
	if len(allowed) == 0 {
		return "nothing is allowed here; remove it"
	}
	return "allowed are " + strings.Join(allowed, ", ")
}

// duration reads a duration from lo to hi, such as 24h, and what is wrong with it.
func duration(pointer, text string, lo, hi time.Duration) (time.Duration, []control.Problem) {
	d := strictyaml.Parse("", []byte(strconv.Quote(text)), nil)
	value := d.Root().Duration(lo, hi)
	var mistakes []control.Problem
	for _, e := range d.Errors() {
		mistakes = append(mistakes, control.Problem{Pointer: pointer, Message: e.Message, Hint: e.Hint})
	}
	return value, mistakes
}
