package api

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
