package presets

import (
	"embed"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gancho/delivery/endpoint"
	"gancho/internal/language"
	"gancho/internal/strictyaml"
)

//go:embed *.screen.yaml
var screens embed.FS

// screenSuffix ends the name of a screen's file.
const screenSuffix = ".screen.yaml"

// Screen is where a unit (a tenant) says itself which of its addresses get which events, as its vendor has it: the vendor's words in
// one of our layouts. docs/console.md describes the file.
type Screen struct {
	// Name is that of the file, without .screen.yaml. The endpoints that the screen adds begin with it.
	Name   string
	Layout Layout
	// Title is the screen's, Menu where the vendor's own system has it, Intro a sentence below; Choose asks for the unit.
	Title, Menu, Intro, Choose Text
	// URL is the label of an address.
	URL Text
	// Requires is what has to be active for anything to be sent, such as the API; it is switched on the screen. Empty: nothing.
	Requires Text
	// Field is the extra field of each request that tells receivers who calls (validationtoken). Empty: there is none.
	Field  string
	Groups []Group
	// Endpoint has the settings of the endpoints that the screen adds. They are the operator's: a tenant could not set all of them.
	Endpoint endpoint.Endpoint
}

// Layout is how a screen looks.
type Layout string

// The layouts.
const (
	Single Layout = "single" // one address that gets all events
	Table  Layout = "table"  // a row for each action and address
	Groups Layout = "groups" // several addresses for each action, all saved together
)

// Group is a part of the actions, with a title; single and table have one without.
type Group struct {
	Title, Hint Text
	Actions     []Action
}

// Action is what a unit chooses: one or several events under the vendor's name.
type Action struct {
	Name        string
	Title, Hint Text
	Events      []string
}

// Text is in the languages of the console. One that is written once is the same in all.
type Text map[language.Code]string

// In returns the text in a language; "" when there is none.
func (t Text) In(code language.Code) string { return t[code] }

// Actions are those of all groups.
func (s *Screen) Actions() []Action {
	var all []Action
	for _, g := range s.Groups {
		all = append(all, g.Actions...)
	}
	return all
}

// ScreenNames lists the vendors whose screens are part of Gancho.
func ScreenNames() []string { return Names() }

// OwnScreen returns the screen of a vendor that is part of Gancho.
func OwnScreen(name string) (Screen, error) {
	src, err := screens.ReadFile(name + screenSuffix)
	if err != nil {
		return Screen{}, fmt.Errorf("find screen %q: it does not exist; write one of %s, or the path of a %s file", name, strings.Join(ScreenNames(), ", "), screenSuffix)
	}
	return ParseScreen(name+screenSuffix, src)
}

// screenName keeps the names of its endpoints, with a tenant's id behind it, within 63 bytes.
var screenName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,19}$`)

// ParseScreen reads a screen's file. Mistakes are strictyaml.Errors.
func ParseScreen(file string, src []byte) (Screen, error) {
	d := strictyaml.Parse(file, src, nil)
	s := Screen{Name: strings.TrimSuffix(filepath.Base(file), screenSuffix)}
	if !screenName.MatchString(s.Name) || !strings.HasSuffix(file, screenSuffix) {
		d.Add("name it such as totvs.screen.yaml: at most 20 lower-case letters, digits, - and _ before the ending", "the name of the file cannot be that of a screen")
	}
	root := d.Root()
	root.Map(
		strictyaml.Required("layout", func(v strictyaml.Value) {
			s.Layout = Layout(v.Choice(string(Single), string(Table), string(Groups)))
		}),
		strictyaml.Required("title", func(v strictyaml.Value) { s.Title = decodeText(v) }),
		strictyaml.Optional("menu", func(v strictyaml.Value) { s.Menu = decodeText(v) }),
		strictyaml.Optional("intro", func(v strictyaml.Value) { s.Intro = decodeText(v) }),
		strictyaml.Required("choose", func(v strictyaml.Value) { s.Choose = decodeText(v) }),
		strictyaml.Required("url", func(v strictyaml.Value) { s.URL = decodeText(v) }),
		strictyaml.Optional("requires", func(v strictyaml.Value) { s.Requires = decodeText(v) }),
		strictyaml.Optional("field", func(v strictyaml.Value) { s.Field = v.Text() }),
		strictyaml.Optional("endpoint", func(v strictyaml.Value) { s.Endpoint = endpoint.DecodeSettings(v) }),
		strictyaml.Optional("groups", func(v strictyaml.Value) {
			for _, item := range v.List() {
				s.Groups = append(s.Groups, decodeGroup(item))
			}
		}),
		strictyaml.Optional("actions", func(v strictyaml.Value) {
			s.Groups = append(s.Groups, Group{Actions: decodeActions(v)})
		}),
	)
	if root.IsMap() && len(d.Errors()) == 0 {
		s.check(root)
	}
	return s, d.Errors().Err()
}

// check finds what no key has alone.
func (s *Screen) check(v strictyaml.Value) {
	titled := 0
	for _, g := range s.Groups {
		if len(g.Title) > 0 {
			titled++
		}
	}
	switch {
	case s.Layout == Groups && (titled == 0 || titled != len(s.Groups)):
		v.Errorf("write groups: with a title and actions each", "the layout groups has no groups")
	case s.Layout != Groups && (titled > 0 || len(s.Groups) != 1):
		v.Errorf("write actions:", "the layout %s has one list of actions", s.Layout)
	case s.Field != "" && s.Layout != Table:
		v.Errorf("remove field, or write layout: table", "the layout %s has no place where the field %s is created", s.Layout, s.Field)
	case len(s.Requires) > 0 && s.Layout != Groups:
		v.Errorf("remove requires, or write layout: groups", "the layout %s has no switch for what is required", s.Layout)
	case s.Field != "" && s.Endpoint.Format == endpoint.FormatBare:
		v.Errorf("remove field, or use the format standard", "the format bare has no place for the field %s", s.Field)
	}
	var names []string
	for _, a := range s.Actions() {
		if slices.Contains(names, a.Name) {
			v.Errorf("give one of them another name", "there are two actions with the name %q", a.Name)
		}
		names = append(names, a.Name)
	}
}

func decodeGroup(v strictyaml.Value) Group {
	var g Group
	v.Map(
		strictyaml.Required("title", func(v strictyaml.Value) { g.Title = decodeText(v) }),
		strictyaml.Optional("hint", func(v strictyaml.Value) { g.Hint = decodeText(v) }),
		strictyaml.Required("actions", func(v strictyaml.Value) { g.Actions = decodeActions(v) }),
	)
	return g
}

// actionName is in the names of fields.
var actionName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

func decodeActions(v strictyaml.Value) []Action {
	var all []Action
	for _, item := range v.List() {
		var a Action
		item.Map(
			strictyaml.Required("name", func(v strictyaml.Value) {
				if a.Name = v.Text(); a.Name != "" && !actionName.MatchString(a.Name) {
					v.Errorf("use letters, digits, . - and _", "this cannot be the name of an action")
				}
			}),
			strictyaml.Required("title", func(v strictyaml.Value) { a.Title = decodeText(v) }),
			strictyaml.Optional("hint", func(v strictyaml.Value) { a.Hint = decodeText(v) }),
			strictyaml.Optional("events", func(v strictyaml.Value) {
				for i, name := range v.Texts() {
					if strings.ContainsAny(name, "* \t\n?[]{}") {
						v.ListOrOne()[i].Errorf("name the event, such as pedido.criado", "an action has no patterns of events")
					}
					a.Events = append(a.Events, name)
				}
			}),
		)
		if len(a.Events) == 0 {
			a.Events = []string{a.Name}
		}
		all = append(all, a)
	}
	if v.IsList() && len(all) == 0 {
		v.Errorf("name one at least", "there are no actions")
	}
	return all
}

func decodeText(v strictyaml.Value) Text {
	t := Text{}
	if !v.IsMap() {
		text := v.Text()
		for _, code := range language.Codes() {
			t[code] = text
		}
		return t
	}
	var fields []strictyaml.Field
	for _, code := range language.Codes() {
		fields = append(fields, strictyaml.Required(string(code), func(v strictyaml.Value) { t[code] = v.Text() }))
	}
	v.Map(fields...)
	return t
}
