package endpoint_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
)

func TestMaskURL(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://x.com":                                               "https://x.com",
		"https://x.com/":                                              "https://x.com/",
		"https://x.com/hooks":                                         "https://x.com/hooks",
		"https://x.com/hooks/":                                        "https://x.com/hooks/",
		"https://hooks.slack.com/services/T0/B0/XX":                   "https://hooks.slack.com/services/***",
		"https://x.com//secret":                                       "https://x.com//***",
		"https://x.com/hooks/a?b=c/d&e":                               "https://x.com/hooks/***?b=***&***",
		"https://x.com/a?c2VjcmV0dG9r=&YQ==&b=c=":                     "https://x.com/a?***&***&b=***",
		"https://x.com?b=c/d":                                         "https://x.com?b=***",
		"https://hook.eu1.make.com/abcdefghijklmnopqrstuvwxyz012345":  "https://hook.eu1.make.com/***",
		"https://api.telegram.org/bot123456:abcdefghijkl/sendMessage": "https://api.telegram.org/***",
		"https://x.com/abcdefghijklmnopqrst/b":                        "https://x.com/abcdefghijklmnopqrst/***",
		"x":                                                           "x", "": "",
	} {
		if got := endpoint.MaskURL(address); got != want {
			t.Errorf("%s is shown as %s, not %s", address, got, want)
		}
	}
}

// A change that leads elsewhere keeps no secret, and names each; one that does not keeps
// those that it does not name.
func TestMergeKeepsSecretsWithTheirServer(t *testing.T) {
	t.Parallel()
	const document = `{"url": "https://x.com/hooks/path?token=query", "headers": {"X-Key": "one", "Authorization": "two"}, "extra": {"Token": "three"},
		"tls": {"certificate": "public", "key": "four"}, "proxy": "http://user:five@proxy:3128"}`
	all := []string{"/extra/Token", "/headers/Authorization", "/headers/X-Key", "/proxy", "/tls/key", "/url"}
	without := func(pointers ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(p string) bool { return slices.Contains(pointers, p) })
	}
	const retyped = `"headers": {"x-key": "new", "AUTHORIZATION": null}, "extra": {"Token": "new"}, "tls": null, "proxy": "http://user:new@proxy:3128"`
	for _, c := range []struct {
		patch  string
		pinned []string
		want   []string
	}{
		{patch: `{"rate": "5/s"}`},
		{patch: `{"url": "https://x.com/hooks/***?token=***"}`},
		{patch: `{"url": "https://X.com:443/other"}`},
		{patch: `{"url": "https://x.com/other"}`},
		{patch: `{"headers": {"X-Key": "***"}, "proxy": "http://other:***@proxy:3128"}`},
		{patch: `{"url": "https://y.com/hooks/a"}`, want: without("/url")},
		{patch: `{"url": "https://y.com/hooks/***?token=***"}`, want: all},
		{patch: `{"url": "https://y.com?token=***"}`, want: all},
		{patch: `{"url": "http://x.com/hooks/a"}`, want: without("/url")},
		{patch: `{"url": "https://x.com:444/hooks/a"}`, want: without("/url")},
		{patch: `{"url": "https://x.com./hooks/a"}`, want: without("/url")},
		{patch: `{"url": ["https://y.com"]}`, want: without("/url")},
		{patch: `{"proxy": "http://user:new@evil:3128"}`, want: without("/proxy")},
		{patch: `{"proxy": "http://user:***@evil:3128"}`, want: all},
		{patch: `{"proxy": null}`, want: without("/proxy")},
		{patch: `{"url": "https://y.com", "headers": "***", "extra": "***", "tls": "***"}`, want: without("/url")},
		{patch: `{"url": "https://y.com", "headers": {"X-KEY": "new", "x-key": "***"}, "extra": {"token": "new"}}`, want: without("/url")},
		{patch: `{"url": "https://y.com", "headers": {"X-Key": "***", "Authorization": "new"}, "extra": null}`, want: without("/url", "/headers/Authorization", "/extra/Token")},
		{patch: `{"url": "https://y.com", ` + retyped + `}`},
		// A tenant may not change these and keep what is the operator's.
		{patch: `{"url": "https://x.com/other"}`, pinned: []string{"/url"}, want: without("/url")},
		{patch: `{"url": "https://x.com/hooks/***?token=***"}`, pinned: []string{"/url"}},
		{patch: `{"success": {"body": "^o"}}`, pinned: []string{"/url", "/success"}, want: all},
		{patch: `{"tls": {"ca": "mine"}}`, pinned: []string{"/tls/ca"}, want: all},
	} {
		before, patch := decoded(t, document), decoded(t, c.patch)
		var got []string
		for _, m := range endpoint.Merge(before, patch, c.pinned...) {
			got = append(got, m.Pointer)
			if strings.ContainsAny(m.Error(), "@?") {
				t.Errorf("%s: the mistake shows a value: %v", c.patch, m)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.patch, diff)
		}
		if text, _ := json.Marshal(before); c.want == nil && strings.Contains(string(text), "***") {
			t.Errorf("%s leaves *** in %s", c.patch, text)
		}
	}
}

// The secrets of a login stay with the servers that they are for: the receiver's and that of its
// tokens, which is a change for those alone.
func TestMergeKeepsLoginsWithTheirServers(t *testing.T) {
	t.Parallel()
	const document = `{"url": "https://x.com/a", "headers": {"X-Key": "one"}, "auth": {"oauth2": {"token_url": "https://l.com/a/b", "client_id": "i", "client_secret": "two", "params": {"audience": "three"}}}}`
	const basic = `{"url": "https://x.com/a", "auth": {"basic": {"user": "ana", "password": "two"}}}`
	const bearer = `{"url": "https://x.com/a", "auth": {"bearer": "two"}}`
	login := []string{"/auth/oauth2/client_secret", "/auth/oauth2/params/audience"}
	all := append(slices.Clone(login), "/auth/oauth2/token_url", "/headers/X-Key")
	for _, c := range []struct {
		document, patch string
		pinned          []string
		want            []string
	}{
		{document, `{"auth": {"oauth2": {"token_url": "https://l.com/a/***", "client_secret": "***", "scopes": ["r"]}}}`, nil, nil},
		{document, `{"auth": {"oauth2": {"token_url": "https://l.com/c"}}}`, nil, nil},
		{document, `{"auth": {"oauth2": {"token_url": "https://evil.com/a"}}}`, nil, login},
		{document, `{"auth": {"oauth2": {"token_url": "https://evil.com/a/***"}}}`, nil, all[:3]},
		{document, `{"auth": {"oauth2": {"token_url": "https://evil.com/a", "client_secret": "***"}}}`, nil, login},
		{document, `{"auth": {"oauth2": {"token_url": "https://l.com/c"}}}`, []string{"/auth/oauth2/token_url"}, append(slices.Clone(login), "/headers/X-Key")},
		{document, `{"url": "https://y.com"}`, nil, all},
		{document, `{"auth": {"oauth2": null, "bearer": "new"}}`, nil, nil},
		{document, `{"auth": {"bearer": "***"}}`, nil, []string{"/auth/bearer"}},
		{basic, `{"url": "https://y.com"}`, nil, []string{"/auth/basic/password"}},
		{basic, `{"url": "https://y.com", "auth": {"basic": {"user": "bia", "password": "***"}}}`, nil, []string{"/auth/basic/password"}},
		{basic, `{"auth": {"oauth2": {"token_url": "https://l.com/c", "client_id": "i", "client_secret": "new"}, "basic": null}}`, nil, nil},
		{bearer, `{"url": "https://y.com"}`, nil, []string{"/auth/bearer"}},
		{bearer, `{"url": "https://y.com", "auth": {"bearer": "new"}}`, nil, nil},
	} {
		var got []string
		for _, m := range endpoint.Merge(decoded(t, c.document), decoded(t, c.patch), c.pinned...) {
			got = append(got, m.Pointer)
		}
		slices.Sort(got)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.patch, diff)
		}
	}
}

// A URL's hidden parts come back as they were, and only those: *** elsewhere is no way to
// have a part of them shown.
func TestMergeFillsURLs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ key, old, patch, want string }{
		{"url", "https://x.com/a/b?t=1&dG9r=&u=2", "https://x.com/a/***?t=***&***&u=***", "https://x.com/a/b?t=1&dG9r=&u=2"},
		{"url", "https://x.com/a?dG9r==&t=1", "https://x.com/a?t=***&***", "https://x.com/a?t=1&dG9r=="},
		{"url", "https://x.com/a?dG9r=", "https://x.com/a?dG9r=***", ""},
		{"url", "https://x.com/a/B1:PW@z", "https://x.com/:***@", "https://x.com/:***@"},
		{"url", "https://x.com/a?t=B1:PW@z", "https://x.com/:***@", "https://x.com/:***@"},
		{"proxy", "http://u:p@PW@x.com:3128", "http://v:***@x.com:3128", "http://v:p@PW@x.com:3128"},
		{"proxy", "http://u@x.com:3128", "http://u:***@x.com:3128", ""},
		{"proxy", "http://u:PW@x.com:3128", "http://***:3128", ""},
	} {
		document := map[string]any{c.key: c.old}
		wrong := endpoint.Merge(document, map[string]any{c.key: c.patch})
		if c.want == "" && len(wrong) == 0 || c.want != "" && (len(wrong) > 0 || document[c.key] != c.want) {
			t.Errorf("%s with %s becomes %v, %v", c.old, c.patch, document[c.key], wrong)
		}
	}
}

func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	return object
}
