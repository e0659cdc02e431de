package api

import (
	"unicode"
	"unicode/utf8"

	"gancho/internal/control"
)

func (c *call) why() (answer, error) {
	question := control.WhyQuestion{Table: c.query.text("table"), Key: c.query.text("key"), From: c.query.time("from"), Row: c.query.bool("row")}
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	view, err := c.control.Why(c.ctx, c.actor, question)
	return answer{body: view}, err
}

// sentence makes an error's text a problem's detail.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:] + "."
}
