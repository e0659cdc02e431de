// Package endpoint is the definition of an endpoint: a receiver of events and
// how it is treated. Its document, its defaults, its bounds, its checks, its
// secrets and what of it may be shown are here and nowhere else; gancho.yaml,
// the database, the API and the deliveries use this type.
//
// An Endpoint comes from a document (Parse, DecodeList), which is checked in
// full, each mistake with its place, or is built in code, where Check reports
// what no request could be sent with. Zero values stand for the defaults:
// WithDefaults is the one place that knows them.
//
// Document returns an endpoint's settings with its secrets, for the database;
// Public returns them with *** in their place, for people; Merge applies an edit
// that was made to the public form. Printed, or marshalled, an Endpoint shows
// no signing key, no header's value, no proxy's password and no TLS key. Its
// URL, whose query may hold a token, is shown: Public masks it.
//
// An Endpoint is not changed once it is in use: a changed one is a new value.
package endpoint
