package api

import (
	"net/http"
	"slices"

	"gancho/internal/state"
)

// The types of bodies, and the parameters of many lists.
var (
	jsonBody  = []string{mediaJSON}
	patchBody = []string{mediaPatch, mediaJSON}
	pages     = []string{"limit", "cursor"}
)

// routes are all there is. openapi.yaml has the same; a test compares them.
func routes() []route {
	const (
		get, post, patch, remove = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
		viewer, operator, admin  = state.Viewer, state.Operator, state.Admin
	)
	return []route{
		{method: get, path: "/openapi.json", open: true, handle: (*call).openAPI},
		{method: get, path: "/endpoints", role: viewer, query: pages, handle: (*call).listEndpoints},
		{method: post, path: "/endpoints", role: admin, query: []string{"ed25519"}, media: jsonBody, handle: (*call).addEndpoint},
		{method: get, path: "/endpoints/{name}", role: viewer, handle: (*call).showEndpoint},
		{method: patch, path: "/endpoints/{name}", role: admin, media: patchBody, handle: (*call).editEndpoint},
		{method: remove, path: "/endpoints/{name}", role: admin, query: []string{"drop_queue"}, handle: (*call).removeEndpoint},
		{method: post, path: "/endpoints/{name}/activate", role: operator, handle: (*call).activateEndpoint},
		{method: post, path: "/endpoints/{name}/pause", role: operator, handle: (*call).pauseEndpoint},
		{method: post, path: "/endpoints/{name}/deactivate", role: admin, handle: (*call).deactivateEndpoint},
		{method: post, path: "/endpoints/{name}/rotate", role: admin, media: jsonBody, handle: (*call).rotateSecret},
		{method: post, path: "/endpoints/{name}/test", role: operator, slow: true, handle: (*call).testEndpoint},
		{method: get, path: "/endpoints/{name}/keys", role: viewer, handle: (*call).listKeys},
		{method: get, path: "/deliveries", role: viewer, query: slices.Concat(filterQuery, []string{"outcome"}, pages), handle: (*call).listDeliveries},
		{method: get, path: "/dead-letters", role: viewer, query: slices.Concat(filterQuery, pages), handle: (*call).listDead},
		{method: get, path: "/dead-letters/{id}", role: viewer, handle: (*call).showDead},
		{method: remove, path: "/dead-letters/{id}", role: admin, handle: (*call).dropOneDead},
		{method: post, path: "/dead-letters/redrive", role: operator, slow: true, media: jsonBody, handle: (*call).redrive},
		{method: post, path: "/dead-letters/drop", role: admin, slow: true, media: jsonBody, handle: (*call).dropDead},
		{method: get, path: "/parked", role: viewer, query: pages, handle: (*call).listParked},
		{method: get, path: "/resends", role: viewer, query: pages, handle: (*call).listJobs},
		{method: post, path: "/resends", role: operator, slow: true, media: jsonBody, handle: (*call).resend},
		{method: get, path: "/resends/{id}", role: viewer, handle: (*call).showJob},
		{method: post, path: "/resends/{id}/cancel", role: operator, handle: (*call).cancelJob},
		{method: get, path: "/event-types", role: viewer, handle: (*call).listEventTypes},
		{method: get, path: "/status", role: viewer, handle: (*call).showStatus},
		{method: get, path: "/audit", role: viewer, query: slices.Concat([]string{"object", "action", "from", "to"}, pages), handle: (*call).listChanges},
		{method: get, path: "/tokens", role: admin, handle: (*call).listTokens},
		{method: post, path: "/tokens", role: admin, media: jsonBody, handle: (*call).createToken},
		{method: remove, path: "/tokens/{name}", role: admin, handle: (*call).revokeToken},
	}
}
