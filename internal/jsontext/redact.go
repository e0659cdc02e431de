package jsontext

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// Redacted stands for what is not shown.
const Redacted = "***"

// Redact copies JSON with Redacted for each value that hide names, but for null. Hide gets a
// value's path, steps joined by dots with the numbers of items, and the closest name of a
// member at or above it; the outermost value has neither, and is not hidden. A text that is JSON
// itself is redacted like a member's value, and one that is XML is hidden whole if hide is true of a
// name in one of its tags. The text must be whole JSON.
func Redact(text []byte, hide func(path, key string) bool) []byte {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return redact(nil, d, "", "", hide)
}

func redact(dst []byte, d *json.Decoder, path, key string, hide func(path, key string) bool) []byte {
	token, err := d.Token()
	if err != nil {
		return append(dst, "null"...)
	}
	hidden := key != "" && hide(path, key)
	delim, nested := token.(json.Delim)
	if !nested {
		if text, is := token.(string); is && !hidden {
			token = redactText(text, path, hide)
		}
		if hidden && token != nil {
			token = Redacted
		}
		return AppendScalar(dst, token)
	}
	start := len(dst)
	dst = append(dst, byte(delim))
	for i := 0; d.More(); i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		name, step := key, strconv.Itoa(i)
		if delim == '{' {
			token, _ := d.Token() // a key: the text is whole
			name, _ = token.(string)
			step = name
			dst = append(AppendString(dst, name), ':')
		}
		dst = redact(dst, d, join(path, step), name, hide)
	}
	_, _ = d.Token() // the closing delimiter
	if hidden {
		return AppendString(dst[:start], Redacted)
	}
	if delim == '{' {
		return append(dst, '}')
	}
	return append(dst, ']')
}

func join(path, step string) string {
	if path == "" {
		return step
	}
	return path + "." + step
}

// tag is one of XML, with its attributes, and tagWord a name or a word of a value in it.
var (
	tag     = regexp.MustCompile(`<[^>]*>?`)
	tagWord = regexp.MustCompile(`[\pL\pN_.-]+`)
)

// redactText is a text without what hide names in it. One without anything of that is as it was.
func redactText(text, path string, hide func(path, key string) bool) string {
	trimmed := strings.TrimSpace(text)
	if trimmed == "" {
		return text
	}
	switch trimmed[0] {
	case '{', '[':
		if !json.Valid([]byte(trimmed)) {
			return text
		}
		found := false
		out := Redact([]byte(trimmed), func(step, key string) bool {
			hidden := hide(join(path, step), key)
			found = found || hidden
			return hidden
		})
		if found {
			return string(out)
		}
	case '<':
		for _, tag := range tag.FindAllString(trimmed, -1) {
			for _, word := range tagWord.FindAllString(tag, -1) {
				if hide(join(path, word), word) {
					return Redacted
				}
			}
		}
	}
	return text
}

// AppendScalar appends the JSON of a token that is no delimiter, numbers as they were written.
func AppendScalar(dst []byte, token json.Token) []byte {
	switch v := token.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case json.Number:
		return append(dst, v.String()...)
	case string:
		return AppendString(dst, v)
	}
	return dst
}
