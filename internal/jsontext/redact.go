package jsontext

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// Redacted stands for what is not shown.
const Redacted = "***"

// Redact copies JSON with Redacted for each value that hide names, but for null. Hide gets a
// value's path, steps joined by dots with the numbers of items, and the closest name of a
// member at or above it; the outermost value has neither, and is not hidden. The text must
// be whole JSON.
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
		if path != "" {
			step = path + "." + step
		}
		dst = redact(dst, d, step, name, hide)
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
