package console

import (
	"slices"

	"gancho/internal/presets"
	"gancho/internal/state"
)

// Route is a route of a screen, as tests of all of them see it.
type Route struct {
	Screen    string
	Method    string
	Path      string // http.ServeMux's, from /console/ on
	Role      state.Role
	Operators bool
}

// Routes are those of every screen there is: a test that goes through them forgets no new one.
func Routes() (all []Route) {
	var vendors []presets.Screen
	for _, name := range presets.ScreenNames() {
		if p, err := presets.OwnScreen(name); err == nil {
			vendors = append(vendors, p)
		}
	}
	for _, s := range slices.Concat(screens(), unitScreens(vendors)) {
		for _, r := range s.routes {
			method, path := splitPattern(r.pattern)
			all = append(all, Route{s.name, method, path, r.needs(&s), s.operators})
		}
	}
	return all
}

// Assets returns the addresses of the assets, and their bodies.
func Assets() map[string][]byte {
	out := map[string][]byte{}
	a := newAssets(&Brand{})
	for name := range a {
		out[a.url(name)] = a[name].body
	}
	return out
}

// AuditActions are the codes that the page of the audit log knows.
func AuditActions() []string { return auditActions() }
