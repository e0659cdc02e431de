package console

import (
	"cmp"
	"strings"

	"gancho/internal/presets"
	"gancho/internal/state"
)

// screen is one of the console's subjects, with its pages and what is done on them.
type screen struct {
	// name is that of its template, of its texts (NAME.title) and of its place in the navigation (nav.NAME).
	name string
	// path is where the navigation leads, below /console/; hidden screens are not in it.
	path   string
	hidden bool
	// label is that of the navigation instead of nav.NAME, for a vendor's screen.
	label presets.Text
	// role is what it needs; operators' screens do not exist for a tenant.
	role      state.Role
	operators bool
	// sources: what it shows is of one of several sources, where one is named; chosen: above its pages.
	sources, chosen bool
	routes          []route
}

// route is a page of a screen, or what is done there.
type route struct {
	// pattern is http.ServeMux's, below /console: GET /audit, POST /access/tokens/{name}/revoke.
	pattern string
	role    state.Role // that it needs; "": the screen's
	handle  func(*visit) (reply, error)
}

// splitPattern returns the method, and the path as the listener's http.ServeMux knows it.
func splitPattern(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " /")
	return method, root + cmp.Or(path, "{$}")
}

func (r *route) needs(s *screen) state.Role { return cmp.Or(r.role, s.role) }

// screens are all there are, in the order of the navigation.
func screens() []screen {
	return []screen{dashboardScreen(), liveScreen(), deliveriesScreen(), endpointsScreen(), pendingScreen(), rulesScreen(), catalogueScreen(), jobsScreen(), sourceScreen(), accessScreen(), auditScreen()}
}

// reply is what a route returns: a page, or where to go on.
type reply struct {
	status   int // 0: 200
	template string
	data     any
	location string
	written  bool  // the route has answered
	file     *file // nil: it is a page
}

// file is what a browser saves.
type file struct {
	name, mediaType string
	text            []byte
}

// download has the browser save a file.
func download(name, mediaType string, text []byte) (reply, error) {
	return reply{file: &file{name, mediaType, text}}, nil
}

// page shows the template with the data.
func page(template string, data any) (reply, error) {
	return reply{template: template, data: data}, nil
}

// refused shows the page again, with the mistakes of its form.
func refused(template string, data any) (reply, error) {
	return reply{status: 422, template: template, data: data}, nil
}

// goTo leads to a path below /console/ after something was done, which the notice done.WHAT there says; "": none.
func goTo(path, done string) (reply, error) {
	if done != "" {
		path += "?done=" + done
	}
	return reply{location: root + path}, nil
}
