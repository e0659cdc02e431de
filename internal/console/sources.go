package console

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"gancho/internal/control"
	"gancho/internal/language"
)

// sourceField is the name of what chooses one of several sources, in addresses and forms.
const sourceField = "source"

// atSource calls the route, at the source that is chosen.
func (v *visit) atSource(s *screen, rt *route) (r reply, err error) {
	name := v.http.URL.Query().Get(sourceField)
	if v.http.Method == http.MethodPost {
		name = v.http.PostForm.Get(sourceField)
	}
	if name == "" || !s.sources {
		return rt.handle(v)
	}
	err = v.Control.Of(v.ctx(), v.actor, name, func(of *control.Service) (err error) {
		v.Control, v.source = of, name
		r, err = rt.handle(v)
		return err
	})
	return r, err
}

// query is queryOf, with the source that is chosen.
func (v *visit) query(pairs ...string) string {
	if v.source != "" {
		pairs = append(pairs, sourceField, v.source)
	}
	return queryOf(pairs...)
}

// sourceBadge is the state of a source.
func sourceBadge(l *language.Language, state string) badge {
	kinds := map[string]string{control.SourceStreaming: "good", control.SourceVisited: "good", control.SourceRefused: "bad"}
	return newBadge(cmp.Or(kinds[state], "idle"), l.Word("sources.state", state))
}

// sources are the names of several sources, sorted; nil: there is one, or the visitor is a tenant's.
func (v *visit) sources() []string {
	if v.console.Control == nil || v.console.Control.OfSource == nil || v.actor.Tenant != "" {
		return nil
	}
	now, err := v.console.Control.SourcesNow(v.ctx(), v.actor)
	if err != nil {
		v.log(err) // the page is shown without them
		return nil
	}
	names := make([]string, len(now.Sources))
	for i := range now.Sources {
		names[i] = now.Sources[i].Name
	}
	slices.Sort(names)
	return names
}

// sourceOptions are the sources to choose from; the first is all of them, or none yet.
func (v *visit) sourceOptions(first, chosen string) []option {
	names := v.sources()
	if len(names) == 0 {
		return nil
	}
	out := []option{{"", first, chosen == ""}}
	for _, name := range names {
		out = append(out, option{name, name, name == chosen})
	}
	return out
}

// choice is that of a source above a page, and what else the page's address has.
func (v *visit) choice() (sources []option, kept []fact) {
	if v.screen == nil || !v.screen.chosen || !v.actor.Role.Covers(v.screen.role) {
		return nil, nil
	}
	sources = v.sourceOptions(v.text("sources.all"), v.source)
	if v.http.Method == http.MethodGet {
		for name, texts := range v.http.URL.Query() {
			if name != sourceField && name != "cursor" && name != "done" {
				kept = append(kept, fact{Name: name, Text: texts[0]})
			}
		}
		slices.SortFunc(kept, func(a, b fact) int { return strings.Compare(a.Name, b.Name) })
	}
	return sources, kept
}
