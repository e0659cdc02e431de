package endpoint

import (
	"net/textproto"
	"net/url"
	"strings"
)

// Merge applies a JSON merge patch (RFC 7396) to an endpoint's document, both
// decoded, and changes the document. *** in the patch keeps what is there: a
// value, the values of the url's query, the proxy's password. The mistakes are
// those *** that stand for nothing.
func Merge(document, patch map[string]any) []*SettingError {
	var m merger
	m.merge("", document, patch)
	return m
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
		if pointer == "/headers" {
			key = textproto.CanonicalMIMEHeaderKey(key)
		}
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
	case wasText && (pointer == "/url" || pointer == "/proxy"):
		if whole, ok := unmask(text, old); ok {
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

// MaskQuery replaces what stands behind each name in a URL's query, and what has
// no name: it may be a token as a whole.
func MaskQuery(address string) string {
	base, query, ok := strings.Cut(address, "?")
	if !ok {
		return address
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		if name, _, ok := strings.Cut(part, "="); ok {
			parts[i] = name + "=" + Masked
		} else if part != "" {
			parts[i] = Masked
		}
	}
	return base + "?" + strings.Join(parts, "&")
}

// maskPassword replaces the password of a proxy's URL.
func maskPassword(proxy string) string {
	u, err := url.Parse(proxy)
	if err != nil {
		return Masked
	}
	if _, ok := u.User.Password(); !ok {
		return proxy
	}
	user := url.User(u.User.Username()).String()
	u.User = nil
	return strings.Replace(u.String(), "://", "://"+user+":"+Masked+"@", 1)
}

// unmask fills the *** of a URL, as Public shows it, from the URL as it was, and
// reports whether that had them all.
func unmask(text, old string) (string, bool) {
	text, found := unmaskPassword(text, old)
	base, query, _ := strings.Cut(text, "?")
	_, before, _ := strings.Cut(old, "?")
	hidden := map[string][]string{}
	for part := range strings.SplitSeq(before, "&") {
		name, _, pair := strings.Cut(part, "=")
		if !pair {
			name = ""
		}
		hidden[name] = append(hidden[name], part)
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name, value, pair := strings.Cut(part, "=")
		switch {
		case !pair && part == Masked:
			name = ""
		case !pair || value != Masked:
			continue
		}
		if len(hidden[name]) == 0 {
			return "", false
		}
		parts[i], hidden[name] = hidden[name][0], hidden[name][1:]
	}
	if query != "" {
		base += "?" + strings.Join(parts, "&")
	}
	return base, found
}

// unmaskPassword is unmask for the password of a proxy's URL.
func unmaskPassword(text, old string) (string, bool) {
	head, tail, masked := strings.Cut(text, ":"+Masked+"@")
	if !masked {
		return text, true
	}
	_, rest, _ := strings.Cut(old, "://")
	user, _, given := strings.Cut(rest, "@")
	_, password, hasPassword := strings.Cut(user, ":")
	return head + ":" + password + "@" + tail, given && hasPassword
}
