// Package api serves Gancho over HTTP under /api/v1: endpoints, deliveries,
// dead letters, resends, the catalogue of events, status, audit log and tokens.
//
// It is thin. What a request may see and change is decided by internal/control,
// which the commands use too; here is what only HTTP needs: bearer tokens,
// bodies and query parameters that are refused when they hold anything unknown,
// pages, entity tags, and errors as application/problem+json (RFC 9457).
//
// openapi.yaml describes all of it and is served as /api/v1/openapi.json, the
// one path that needs no token. The tests hold it against the handlers: every
// route is in it and the reverse, and every answer of a test fits its schema.
//
// Guarantees: an answer, an error or a log line holds no secret and no token,
// except the answer that creates one, once. What belongs to another tenant is
// answered as what does not exist. A refused request has changed nothing.
//
// A Handler has no goroutine of its own. What it keeps between requests is
// bounded: who failed to authenticate lately, and which tokens did not.
package api
