package cdc

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Encoding is what a database's text is taken for, where the server cannot
// convert it: a database under SQL_ASCII holds whatever bytes the application
// sent, and one under WIN1252 bytes that are no character. Empty: the server
// converts.
type Encoding string

// The encodings of source.encoding.
const (
	Latin1  Encoding = "latin1"
	Win1252 Encoding = "win1252"
	UTF8    Encoding = "utf8"
)

// client is the session's client_encoding. Under SQL_ASCII the server sends the
// bytes as they are, whatever the database's encoding.
func (e Encoding) client() string {
	if e == "" {
		return "UTF8"
	}
	return "SQL_ASCII"
}

func (e Encoding) charmap() *charmap.Charmap {
	if e == Win1252 {
		return charmap.Windows1252
	}
	return charmap.ISO8859_1
}

// databaseNames are the encodings' names in pg_encoding_to_char.
var databaseNames = map[Encoding]string{Latin1: "LATIN1", Win1252: "WIN1252", UTF8: "UTF8"}

// Misfit says why a database of this encoding cannot hold such text, "" if it may.
func (e Encoding) Misfit(database string) string {
	if e == "" || database == "SQL_ASCII" || database == databaseNames[e] {
		return ""
	}
	return fmt.Sprintf("source.encoding is %s, and the database's own encoding is %s, which the server converts; remove source.encoding", e, database)
}

// Counted is the encoding whose characters the functions of a database of this
// encoding count: under SQL_ASCII these are bytes, which are the characters of a
// single-byte encoding.
func (e Encoding) Counted(database string) string {
	if database == "SQL_ASCII" && (e == Latin1 || e == Win1252) {
		return databaseNames[e]
	}
	return database
}

// Advice is what to say about a database whose text the server cannot convert
// and for which no encoding is configured, "" otherwise.
func (e Encoding) Advice(database string) string {
	if e != "" || database != "SQL_ASCII" {
		return ""
	}
	return "the database's encoding is SQL_ASCII, which means that the server does not know it: the first character outside of ASCII that is not UTF-8 ends the stream, and nothing after it is read; " +
		"write source.encoding: latin1, win1252 or utf8, whichever the application writes"
}

// ascii reports whether the text is the same in all encodings.
func ascii(text []byte) bool {
	return !slices.ContainsFunc(text, func(c byte) bool { return c >= utf8.RuneSelf })
}

// Append appends the text as UTF-8, and reports whether all of it was text.
func (e Encoding) Append(dst, text []byte) ([]byte, bool) {
	if e == UTF8 {
		return append(dst, text...), utf8.Valid(text)
	}
	m, ok := e.charmap(), true
	for _, c := range text {
		r := m.DecodeByte(c)
		ok = ok && r != utf8.RuneError // five bytes of WIN1252 are no character
		dst = utf8.AppendRune(dst, r)
	}
	return dst, ok
}

// Convert replaces a value by its UTF-8 form, which is appended to buffer unless
// it is the same; one that is no text becomes Invalid.
func (e Encoding) Convert(d *Datum, buffer []byte) []byte {
	if e == "" || d.State != Present || ascii(d.Text) {
		return buffer
	}
	start := len(buffer)
	out, ok := e.Append(buffer, d.Text)
	if !ok {
		d.State = Invalid
		return buffer
	}
	d.Text = out[start:len(out):len(out)]
	return out
}

// name converts the name of a table or a column.
func (e Encoding) name(text string) string {
	if e == "" || ascii([]byte(text)) {
		return text
	}
	out, _ := e.Append(nil, []byte(text))
	return string(bytes.ToValidUTF8(out, []byte("\uFFFD")))
}

// SQL makes the server convert an SQL expression, a name in its catalogue, which a
// session in UTF-8 cannot read under SQL_ASCII. Such a server does convert bytes.
func (e Encoding) SQL(text string) string {
	if e != Latin1 && e != Win1252 {
		return text
	}
	return fmt.Sprintf("pg_catalog.convert_from(pg_catalog.convert(pg_catalog.convert_to(%s, 'SQL_ASCII'), '%s', 'UTF8'), 'UTF8')", text, databaseNames[e])
}

// unreadable adds to an error of a query of the catalogue what to do about a name
// that is no text in the session's encoding.
func unreadable(err error) error {
	if SQLState(err) != codeNotInRepertoire {
		return err
	}
	return fmt.Errorf("%w; a name in the catalogue, as of a column or an enum's label, is not UTF-8: write the application's encoding into source.encoding (latin1, win1252), or rename what has it", err)
}

// Encode returns UTF-8 text in the encoding, for the server. A character that it
// does not have, which the database then cannot hold either, becomes SUB (0x1a).
func (e Encoding) Encode(text string) string {
	if e == "" || e == UTF8 || ascii([]byte(text)) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		c, ok := e.charmap().EncodeRune(r)
		if !ok {
			c = 0x1a
		}
		b.WriteByte(c)
	}
	return b.String()
}
