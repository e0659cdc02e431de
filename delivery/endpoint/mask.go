package endpoint

import (
	"net/url"
	"strings"
)

// shownSegment is the longest first segment of a path that is shown, in bytes: a
// longer one is a token, as that of services which have nothing else in their path.
const shownSegment = 20

// MaskURL replaces what may keep others out in a URL: its path behind the first
// segment, what stands behind each name in its query, and what has no name there. To
// chat and automation services the path is the credential. A first segment of more
// than 20 bytes is hidden, too.
func MaskURL(address string) string {
	base, query, hasQuery := strings.Cut(address, "?")
	shown, hidden := cutPath(base)
	if hidden != "" {
		hidden = Masked
	}
	if !hasQuery {
		return shown + hidden
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		if name := queryName(part); name != "" {
			parts[i] = name + "=" + Masked
		} else if part != "" {
			parts[i] = Masked
		}
	}
	return shown + hidden + "?" + strings.Join(parts, "&")
}

// queryName is the name in a part of a query, "" when the whole part is a value: it may
// be a token, and a = at the end of it the padding of base64.
func queryName(part string) string {
	if name, value, _ := strings.Cut(part, "="); strings.Trim(value, "=") != "" {
		return name
	}
	return ""
}

// cutPath splits a URL without its query into what is shown of it and what is not.
func cutPath(base string) (shown, hidden string) {
	_, behind, _ := strings.Cut(base, "://")
	_, path, _ := strings.Cut(behind, "/")
	segment, rest, more := strings.Cut(path, "/")
	if hidden = path; len(segment) <= shownSegment {
		if hidden = rest; !more {
			hidden = ""
		}
	}
	return strings.TrimSuffix(base, hidden), hidden
}

// HiddenPath returns the part of a URL's path that MaskURL hides, as it is written.
func HiddenPath(address string) string {
	base, _, _ := strings.Cut(address, "?")
	_, hidden := cutPath(base)
	return hidden
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
	base, query, _ := strings.Cut(text, "?")
	oldBase, before, _ := strings.Cut(old, "?")
	if shown, masked := strings.CutSuffix(base, "/"+Masked); masked {
		if oldShown, hidden := cutPath(oldBase); hidden == "" || oldShown != shown+"/" {
			return "", false
		}
		base = oldBase
	}
	hidden := map[string][]string{}
	for part := range strings.SplitSeq(before, "&") {
		name := queryName(part)
		hidden[name] = append(hidden[name], part)
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name := queryName(part)
		if part != Masked && (name == "" || part != name+"="+Masked) {
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
	return base, true
}

// unmaskPassword is unmask for the password of a proxy's URL.
func unmaskPassword(text, old string) (string, bool) {
	head, tail, masked := strings.Cut(text, ":"+Masked+"@")
	if !masked {
		return "", false
	}
	_, rest, _ := strings.Cut(old, "://")
	user := rest[:max(0, strings.LastIndex(rest, "@"))] // a password may have another
	_, password, hasPassword := strings.Cut(user, ":")
	return head + ":" + password + "@" + tail, hasPassword
}
