package api

import (
	"net/http"
	"slices"

	"gancho/internal/control"
	"gancho/internal/state"
)

// The types of bodies, and the parameters of many lists.
var (
	jsonBody  = []string{mediaJSON}
	patchBody = []string{mediaPatch, mediaJSON}
	pages     = []string{"limit", "cursor"}
	ofSource  = []string{sourceParameter}
)

// routes are all there is. openapi.yaml has the same; a test compares them.
func routes() []route {
	const (
		get, post, patch, remove = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
		viewer, operator, admin  = state.Viewer, state.Operator, state.Admin
	)
	return []route{
		{method: get, path: "/openapi.json", open: true, handle: (*call).openAPI},
		{method: get, path: "/endpoints", role: viewer, query: pages, handle: paged("endpoints", (*control.Service).Endpoints)},
		{method: post, path: "/endpoints", role: admin, query: []string{"ed25519"}, media: jsonBody, handle: (*call).addEndpoint},
		{method: get, path: "/endpoints/{name}", role: viewer, handle: (*call).showEndpoint},
		{method: patch, path: "/endpoints/{name}", role: admin, media: patchBody, handle: (*call).editEndpoint},
		{method: remove, path: "/endpoints/{name}", role: admin, query: []string{"drop_queue"}, handle: (*call).removeEndpoint},
		{method: post, path: "/endpoints/{name}/activate", role: operator, handle: switching((*control.Service).Activate)},
		{method: post, path: "/endpoints/{name}/pause", role: operator, handle: switching((*control.Service).Pause)},
		{method: post, path: "/endpoints/{name}/deactivate", role: admin, handle: switching((*control.Service).Deactivate)},
		{method: post, path: "/endpoints/{name}/rotate", role: admin, media: jsonBody, handle: (*call).rotateSecret},
		{method: post, path: "/endpoints/{name}/test", role: operator, slow: true, test: true, handle: (*call).testEndpoint},
		{method: get, path: "/endpoints/{name}/keys", role: viewer, handle: (*call).listKeys},
		{method: get, path: "/endpoints/{name}/closings/{day}", role: viewer, query: slices.Concat(pages, ofSource), handle: (*call).closing},
		{method: get, path: "/deliveries", role: viewer, query: slices.Concat(filterQuery, []string{"outcome", "latest"}, pages), handle: filtered("deliveries", (*query).filter, (*control.Service).Deliveries)},
		{method: get, path: "/deliveries/{id}", role: viewer, handle: (*call).showDelivery},
		{method: post, path: "/deliveries/resend", role: operator, slow: true, media: jsonBody, handle: (*call).resendDeliveries},
		{method: get, path: "/events/{id}", role: viewer, query: []string{"endpoint"}, handle: (*call).showEvent},
		{method: get, path: "/rates", role: viewer, query: []string{"endpoint", "span"}, handle: (*call).rates},
		{method: get, path: "/tail", role: viewer, slow: true, query: []string{"endpoint", "tenant", "event[]", "outcome", "seconds"}, handle: (*call).tail},
		{method: get, path: "/dead-letters", role: viewer, query: slices.Concat(deadQuery, pages, ofSource), handle: filtered("dead", (*query).filter, (*control.Service).DeadLetters)},
		{method: get, path: "/dead-letters/groups", role: viewer, slow: true, query: slices.Concat(deadQuery, ofSource), handle: chosen((*control.Service).DeadGroups)},
		{method: get, path: "/dead-letters/{id}", role: viewer, query: ofSource, handle: numbered((*control.Service).DeadLetter)},
		{method: remove, path: "/dead-letters/{id}", role: admin, query: ofSource, handle: (*call).dropOneDead},
		{method: post, path: "/dead-letters/redrive", role: operator, slow: true, query: ofSource, media: jsonBody, handle: (*call).redrive},
		{method: post, path: "/dead-letters/drop", role: admin, slow: true, query: ofSource, media: jsonBody, handle: (*call).dropDead},
		{method: get, path: "/parked", role: viewer, query: slices.Concat(parkedQuery, pages, ofSource), handle: filtered("parked", (*query).filter, (*control.Service).Parked)},
		{method: get, path: "/parked/groups", role: viewer, slow: true, query: slices.Concat(parkedQuery, ofSource), handle: chosen((*control.Service).ParkedGroups)},
		{method: get, path: "/parked/{id}", role: viewer, query: ofSource, handle: (*call).showParked},
		{method: remove, path: "/parked/{id}", role: admin, query: ofSource, handle: (*call).dropOneParked},
		{method: post, path: "/parked/redrive", role: operator, slow: true, query: ofSource, media: jsonBody, handle: (*call).redriveParked},
		{method: post, path: "/parked/drop", role: admin, slow: true, query: ofSource, media: jsonBody, handle: (*call).dropParked},
		{method: post, path: "/forget", role: admin, erases: true, slow: true, media: jsonBody, handle: (*call).forget},
		{method: get, path: "/resends", role: viewer, query: pages, handle: paged("resends", (*control.Service).Jobs)},
		{method: post, path: "/resends", role: operator, slow: true, media: jsonBody, handle: (*call).resend},
		{method: get, path: "/resends/{id}", role: viewer, handle: numbered((*control.Service).Job)},
		{method: post, path: "/resends/{id}/cancel", role: operator, handle: switchingJob((*control.Service).CancelJob, "The job has ended already, and cannot be canceled.")},
		{method: post, path: "/resends/{id}/pause", role: operator, handle: switchingJob((*control.Service).PauseJob, "It is no backfill that is under way, so it cannot be paused.")},
		{method: post, path: "/resends/{id}/resume", role: operator, handle: switchingJob((*control.Service).ResumeJob, "It is no paused backfill, so it cannot be resumed.")},
		{method: post, path: "/replays", role: operator, slow: true, media: jsonBody, handle: (*call).replay},
		{method: post, path: "/corrections", role: admin, slow: true, query: ofSource, media: jsonBody, handle: (*call).correct},
		{method: post, path: "/backfills", role: operator, slow: true, query: ofSource, media: jsonBody, handle: (*call).backfill},
		{method: get, path: "/event-types", role: viewer, handle: whole((*control.Service).EventTypes)},
		{method: get, path: "/event-types/{name}", role: viewer, query: ofSource, handle: (*call).showEventType},
		{method: get, path: "/rules", role: operator, query: ofSource, handle: whole((*control.Service).Rules)},
		{method: post, path: "/simulations", role: admin, slow: true, query: ofSource, media: jsonBody, handle: (*call).simulate},
		{method: get, path: "/why", role: viewer, query: []string{"table", "key", "webhook_id", "change", "from", "row", sourceParameter}, handle: (*call).why},
		{method: get, path: "/changes", role: operator, query: []string{"rule", "limit", sourceParameter}, handle: (*call).recentChanges},
		{method: get, path: "/test-case", role: operator, slow: true, query: []string{"table", "key", sourceParameter}, handle: (*call).draftTest},
		{method: get, path: "/status", role: viewer, query: ofSource, handle: shown((*control.Service).Status)},
		{method: get, path: "/installation", role: viewer, handle: shown((*control.Service).Installation)},
		{method: get, path: "/proof", role: viewer, slow: true, query: []string{"from", "to", "from_position", "to_position", sourceParameter}, handle: (*call).prove},
		{method: get, path: "/sources", role: viewer, handle: shown((*control.Service).SourcesNow)},
		{method: get, path: "/gaps", role: viewer, query: ofSource, handle: whole((*control.Service).Gaps)},
		{method: get, path: "/doctor", role: operator, slow: true, test: true, query: ofSource, handle: shown((*control.Service).Doctor)},
		{method: get, path: "/audit", role: viewer, query: slices.Concat([]string{"object", "action", "from", "to"}, pages), handle: filtered("audit", (*query).auditFilter, (*control.Service).Audit)},
		{method: get, path: "/tokens", role: admin, handle: whole((*control.Service).Tokens)},
		{method: post, path: "/tokens", role: admin, media: jsonBody, handle: (*call).createToken},
		{method: get, path: "/screens", role: viewer, handle: whole((*control.Service).ScreenViews)},
		{method: get, path: "/screens/{name}", role: viewer, query: []string{"tenant"}, handle: (*call).showUnit},
		{method: post, path: "/screens/{name}", role: admin, media: jsonBody, handle: (*call).changeUnit},
		{method: get, path: "/tenant-fields", role: viewer, query: []string{"tenant"}, handle: (*call).showFields},
		{method: post, path: "/tenant-fields", role: admin, media: jsonBody, handle: (*call).changeFields},
		{method: post, path: "/console-links", role: admin, media: jsonBody, handle: (*call).createLink},
		{method: remove, path: "/tokens/{name}", role: admin, handle: (*call).revokeToken},
	}
}
