package console

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"gancho/internal/control"
	"gancho/internal/state"
)

// endpointForm is the form of an endpoint's settings, or of a new one's.
type endpointForm struct {
	Name    string // "": a new one
	Version int64
	YAML    bool // the settings are one text
	Form    form
	Groups  []fieldGroup
	Text    field // of the settings as YAML
}

type fieldGroup struct {
	Name   string
	Fields []field
}

// endpointForm returns the form with what was filled in.
func (v *visit) endpointForm(name string, version int64, asYAML bool, f form) endpointForm {
	p := endpointForm{Name: name, Version: version, YAML: asYAML, Form: f}
	if asYAML {
		p.Text = newField(f, "document", v.text("settings.document"))
		p.Text.Lines, p.Text.Hint = 18, v.text("settings.document_hint")
		return p
	}
	for _, g := range settingGroups() {
		group := fieldGroup{Name: v.language.Word("settings.group", g.name)}
		for i := range g.settings {
			group.Fields = append(group.Fields, v.settingField(f, &g.settings[i]))
		}
		p.Groups = append(p.Groups, group)
	}
	return p
}

func (v *visit) settingField(f form, s *setting) field {
	key := strings.ReplaceAll(s.name, "/", "_")
	out := newField(f, s.name, v.language.Word("setting", key))
	out.Placeholder, out.Required = s.usual, s.name == "url"
	if hint := v.language.Word("setting_hint", key); hint != key {
		out.Hint = hint
	}
	switch s.kind {
	case pairs:
		out.Lines = 3
	case longText, inYAML:
		out.Lines = 4
	case aSwitch:
		out.Options = []option{{"", v.text("settings.no"), out.Value == ""}, {"true", v.text("settings.yes"), out.Value == "true"}}
	case aSwitchOff:
		out.Options = []option{{"", v.text("settings.yes"), out.Value == ""}, {"false", v.text("settings.no"), out.Value == "false"}}
	case aChoice:
		usual := v.text("settings.none")
		if s.usual != "" {
			usual = v.text("settings.default", "value", s.usual)
		}
		out.Options = []option{{"", usual, out.Value == ""}}
		for _, c := range s.choices {
			out.Options = append(out.Options, option{c, c, out.Value == c})
		}
	case oneText, aNumber, aList:
	}
	return out
}

// filledIn are the fields of settings.
func filledIn(settings json.RawMessage) url.Values {
	document, values := object(settings), url.Values{"document": {yamlOf(settings)}}
	for _, g := range settingGroups() {
		for i := range g.settings {
			s := &g.settings[i]
			values.Set(s.name, s.text(at(document, s.name)))
		}
	}
	return values
}

// sent returns the settings that a form has, where from are those that it was made of: a field that was not touched is as it was.
func (v *visit) sent(values url.Values, from json.RawMessage) (map[string]any, error) {
	if values.Has("document") {
		document, err := fromYAML(values.Get("document"))
		if err != nil {
			return nil, &control.InvalidError{Problems: []control.Problem{{Pointer: "/document", Message: err.Error()}}}
		}
		return document, nil
	}
	was, before, out := object(from), filledIn(from), map[string]any{}
	for _, g := range settingGroups() {
		for i := range g.settings {
			s := &g.settings[i]
			value := s.value(values.Get(s.name))
			if jsonText(value) == jsonText(s.value(before.Get(s.name))) {
				value = at(was, s.name)
			}
			put(out, s.name, value)
		}
	}
	return out, nil
}

func (v *visit) asYAML() bool { return v.http.URL.Query().Get("as") == "yaml" }

func (v *visit) showNewEndpoint() (reply, error) {
	return page("endpoint-form", v.endpointForm("", 0, v.asYAML(), form{Values: url.Values{"document": {"url: \nevents: ['*']\n"}}}))
}

func (v *visit) addEndpoint() (reply, error) {
	values := v.http.PostForm
	document, err := v.sent(values, nil)
	var made control.CreatedView
	if err == nil {
		if document["state"] == nil && values.Get("start") != "active" {
			document["state"] = "inactive"
		}
		n := control.NewEndpoint{Name: values.Get("name"), Document: []byte(jsonText(document)), Ed25519: values.Get("kind") == "ed25519"}
		made, err = v.Control.AddEndpoint(v.ctx(), v.actor, n)
	}
	if err == nil {
		return v.created(made, http.StatusCreated)
	}
	f, mistaken := v.settingMistakes(values, err)
	if !mistaken {
		return reply{}, err
	}
	return refused("endpoint-form", v.endpointForm("", 0, values.Has("document"), f))
}

// settingMistakes returns the form with its mistakes: those of a document all in one place, with the keys that they are about.
func (v *visit) settingMistakes(values url.Values, err error) (form, bool) {
	if values.Has("document") {
		f, mistaken := v.form(values, err, "name", "document")
		var invalid *control.InvalidError
		if mistaken && f.Problems[""] != "" && errors.As(err, &invalid) {
			f.Problems["document"] = v.problems(invalid)
			delete(f.Problems, "")
		}
		return f, mistaken
	}
	return v.form(values, err, append([]string{"name"}, settingNames()...)...)
}

func (v *visit) showEditEndpoint() (reply, error) {
	e, err := v.Control.Settings(v.ctx(), v.actor, v.name())
	switch {
	case err != nil:
		return reply{}, err
	case e.From == control.FromFile:
		return v.endpointRefused(&control.ReadOnlyError{Endpoint: e.Name}, form{})
	}
	return page("endpoint-form", v.endpointForm(e.Name, e.Version, v.asYAML(), form{Values: filledIn(e.Settings)}))
}

func (v *visit) editEndpoint() (reply, error) {
	values := v.http.PostForm
	e, err := v.Control.Settings(v.ctx(), v.actor, v.name())
	if err != nil {
		return reply{}, err
	}
	version, err := strconv.ParseInt(values.Get("version"), 10, 64)
	if err != nil || version != e.Version { // what was not touched would be told from what has changed since
		f := form{Values: values, Problems: map[string]string{"": v.text("settings.changed")}}
		return refused("endpoint-form", v.endpointForm(e.Name, e.Version, values.Has("document"), f))
	}
	document, err := v.sent(values, e.Settings)
	if err == nil {
		patch := mergePatch(object(e.Settings), document)
		_, err = v.Control.EditEndpoint(v.ctx(), v.actor, e.Name, control.Edit{Patch: json.RawMessage(jsonText(patch)), Version: version})
	}
	if err == nil {
		return goTo(endpointPath(e.Name), "endpoint_saved")
	}
	if errors.Is(err, state.ErrConflict) {
		err = v.mistake("", v.text("settings.changed"))
	}
	f, mistaken := v.settingMistakes(values, err)
	if !mistaken {
		return v.endpointRefused(err, form{})
	}
	return refused("endpoint-form", v.endpointForm(e.Name, e.Version, values.Has("document"), f))
}
