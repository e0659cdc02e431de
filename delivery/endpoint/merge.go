package endpoint

import (
	"cmp"
	"encoding/json"
	"maps"
	"net"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
)

// Merge applies a JSON merge patch (RFC 7396) to an endpoint's document, both
// decoded, and changes both. *** in the patch keeps what is there: a
// value, what MaskURL hides of the url, the proxy's password.
//
// Secrets stay with their server: when the scheme, host or port of the url or of
// the proxy changes, or one of the settings at the pinned JSON pointers, the patch has
// to write every hidden value again, or remove it (null). The mistakes are the
// values that it would have kept, and those *** that stand for nothing.
func Merge(document, patch map[string]any, pinned ...string) []*SettingError {
	var m merger
	if headers, isObject := patch["headers"].(map[string]any); isObject {
		patch["headers"] = canonical(headers)
	}
	before, secrets := destination(document, pinned), secretsOf(document)
	tokens, login := server(tokenURL(document)), loginSecrets(document)
	m.merge("", document, patch)
	if destination(document, pinned) != before {
		m.refuseKept(secrets, patch)
	} else if server(tokenURL(document)) != tokens {
		m.refuseKept(login, patch)
	}
	return m
}

// canonical returns the headers under the names that documents have. Of two with the
// same name the last in the order of the names as they are written counts.
func canonical(headers map[string]any) map[string]any {
	out := make(map[string]any, len(headers))
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		out[textproto.CanonicalMIMEHeaderKey(name)] = headers[name]
	}
	return out
}

// destination is what decides where an endpoint's secrets go, as a text: the servers of
// the url and the proxy, and the pinned settings.
func destination(document map[string]any, pinned []string) string {
	parts := []any{server(document["url"]), server(document["proxy"])}
	for _, pointer := range pinned {
		var setting any = document
		for key := range strings.SplitSeq(pointer[1:], "/") {
			members, _ := setting.(map[string]any)
			setting = members[key]
		}
		parts = append(parts, setting)
	}
	text, _ := json.Marshal(parts) // it was JSON
	return string(text)
}

// server is the scheme, host and port of a URL.
func server(address any) string {
	text, _ := address.(string)
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// secretsOf are the places, as keys, of the values that Public hides.
func secretsOf(document map[string]any) [][]string {
	var all [][]string
	for _, key := range []string{"headers", "extra"} {
		members, _ := document[key].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(members)) {
			all = append(all, []string{key, name})
		}
	}
	all = append(all, loginSecrets(document)...)
	if tls, _ := document["tls"].(map[string]any); tls["key"] != nil {
		all = append(all, []string{"tls", "key"})
	}
	if text, _ := document["url"].(string); MaskURL(text) != text {
		all = append(all, []string{"url"})
	}
	if text, _ := document["proxy"].(string); maskPassword(text) != text {
		all = append(all, []string{"proxy"})
	}
	return all
}

// tokenURL is where a login gets its tokens, "" without one.
func tokenURL(document map[string]any) any {
	auth, _ := document["auth"].(map[string]any)
	oauth2, _ := auth["oauth2"].(map[string]any)
	return oauth2["token_url"]
}

// loginSecrets are the places of the secrets of auth.
func loginSecrets(document map[string]any) [][]string {
	var all [][]string
	auth, _ := document["auth"].(map[string]any)
	if basic, _ := auth["basic"].(map[string]any); basic["password"] != nil {
		all = append(all, []string{"auth", "basic", "password"})
	}
	if auth["bearer"] != nil {
		all = append(all, []string{"auth", "bearer"})
	}
	oauth2, _ := auth["oauth2"].(map[string]any)
	if oauth2["client_secret"] != nil {
		all = append(all, []string{"auth", "oauth2", "client_secret"})
	}
	params, _ := oauth2["params"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(params)) {
		all = append(all, []string{"auth", "oauth2", "params", name})
	}
	if text, _ := oauth2["token_url"].(string); MaskURL(text) != text {
		all = append(all, []string{"auth", "oauth2", "token_url"})
	}
	return all
}

// refuseKept adds a mistake for each of the secrets that the patch keeps.
func (m *merger) refuseKept(secrets [][]string, patch map[string]any) {
	for _, keys := range secrets {
		pointer := ""
		for _, key := range keys {
			pointer = Pointer(pointer, key)
		}
		if !keeps(patch, keys) || slices.ContainsFunc(*m, func(e *SettingError) bool { return e.Pointer == pointer }) {
			continue
		}
		kept := mistakef("write the value itself, or null to remove it", "the change may send this hidden value elsewhere, so it is not kept")
		kept.Pointer = pointer
		*m = append(*m, kept)
	}
}

// keeps reports whether a merge patch leaves the value with these keys as it is, by
// not naming it or by ***.
func keeps(patch any, keys []string) bool {
	if members, isObject := patch.(map[string]any); isObject && len(keys) > 0 {
		below, named := members[keys[0]]
		return !named || keeps(below, keys[1:])
	}
	text, _ := patch.(string)
	return strings.Contains(text, Masked)
}

// merger collects the mistakes of a merge.
type merger []*SettingError

// merge is MergePatch of RFC 7396, section 2. The target is changed.
func (m *merger) merge(pointer string, target, patch any) any {
	change, isObject := patch.(map[string]any)
	if !isObject {
		return m.value(pointer, target, patch)
	}
	into, isObject := target.(map[string]any)
	if !isObject {
		into = map[string]any{}
	}
	for key, v := range change {
		if v == nil {
			delete(into, key)
			continue
		}
		into[key] = m.merge(Pointer(pointer, key), into[key], v)
	}
	return into
}

// Pointer is the JSON pointer (RFC 6901) of a member of the object at another.
func Pointer(object, member string) string {
	return object + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(member)
}

// value is what a value of a patch stands for.
func (m *merger) value(pointer string, before, v any) any {
	text, isText := v.(string)
	old, wasText := before.(string)
	switch {
	case !isText || !strings.Contains(text, Masked):
		return v
	case text == Masked && before != nil:
		return before
	case wasText && (pointer == "/url" || pointer == "/auth/oauth2/token_url"):
		if whole, ok := unmask(text, old); ok {
			return whole
		}
	case wasText && pointer == "/proxy":
		if whole, ok := unmaskPassword(text, old); ok {
			return whole
		}
	case text != Masked:
		return v
	}
	missing := mistakef("write the value itself", "%s stands for the value that is there, and there is none", Masked)
	missing.Pointer = pointer
	*m = append(*m, missing)
	return v
}
