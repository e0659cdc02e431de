package api

import "strconv"

// Route is what the tests hold against openapi.yaml.
type Route struct {
	Method, Path, Role string
	Query, Media       []string
}

// Routes are those of the handler.
func Routes() []Route {
	var all []Route
	for _, r := range routes() {
		all = append(all, Route{Method: r.method, Path: r.path, Role: string(r.role), Query: r.query, Media: r.media})
	}
	return all
}

// Describe is the OpenAPI document.
var Describe = describe

// The bounds of what the gate remembers.
const (
	RememberedAddresses = rememberedAddresses
	FailureBurst        = failureBurst
)

// Problems are the kinds of problems with their statuses.
func Problems() map[string]string {
	all := map[string]string{}
	for _, k := range []kind{
		kindInvalid, kindUnauthorized, kindForbidden, kindNotFound, kindMethod, kindConflict, kindReadOnly, kindChanged, kindTooLarge,
		kindMediaType, kindThrottled, kindBusy, kindQuota, kindSlow, kindInternal, kindUnavailable,
	} {
		all[k.name] = strconv.Itoa(k.status)
	}
	return all
}
