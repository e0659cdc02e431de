// Package console serves the pages for people under /console/: server-rendered, they work without JavaScript.
//
// It is thin, as internal/api is. What somebody may see and change is decided by internal/control; here are sessions and their
// cookies, one-time links, forms, languages, and what keeps other sites' pages out: a Content-Security-Policy without
// inline code, Trusted Types, the check of Host against the public URL, and of the origin of every change.
//
// Who signs in pastes an API token or opens a one-time link. The session has the rights of the one or the other, and ends
// with the token, after 12 hours without use, or after 30 days. What belongs to another tenant is answered as what does not exist. A page
// holds no secret, except the one that creates it, once; no log line holds a query, a token or a link.
//
// The screens of vendors, on which units (tenants) say where they get webhooks, are layouts of files: see presets.Screen and unit.go.
//
// # How to add a screen
//
//  1. Write NAME.go with func nameScreen() screen: its name, path, role, operators: true when tenants have none, and its routes.
//     Patterns are http.ServeMux's below /console: GET /name, POST /name/{id}/retry.
//  2. Put it into screens() of screen.go, where it stands in the navigation.
//  3. A handler is a method of *visit. It calls v.Control with v.ctx() and v.actor, and returns page("name", data), refused("name", data)
//     with the mistakes of a form, goTo("name", "what_was_done"), or the error: answer knows what each looks like.
//  4. Write templates/name.html with {{define "title"}} and {{define "main"}}. component.html has badge, notice, field, problems, pager and
//     time; functions in page.go. A table is <table class="list"> whose cells have data-label, which a narrow screen shows.
//  5. Add nav.name, done.what_was_done and all texts to ../language/pt-BR.yaml and en.yaml, in the order of the alphabet. Texts of a value
//     are {{word "prefix" value}}: prefix.value.
//  6. A part that shall stay fresh is <div id="x" data-refresh="5">. No style or script in a page: the policy refuses them.
//  7. Test it with newConsole (harness_test.go): c.as(role, tenant) is a visitor with open, submit and text.
package console
