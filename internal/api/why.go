package api

import (
	"unicode"
	"unicode/utf8"

	"gancho/internal/control"
)

func (c *call) why() (answer, error) {
	question := control.WhyQuestion{Table: c.query.text("table"), Key: c.query.text("key"), Change: c.query.text("change"), From: c.query.time("from"), WebhookID: c.query.text("webhook_id"), Row: c.query.bool("row")}
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	view, err := c.control.Why(c.ctx, c.actor, question)
	return answer{body: view}, err
}

// recentChanges lists the newest changes that rules have looked at.
func (c *call) recentChanges() (answer, error) {
	rule, limit := c.query.text("rule"), c.query.limit()
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	found, err := c.control.RecentChanges(c.ctx, c.actor, rule, limit)
	return answer{body: found}, err
}

// testCase is a file for gancho test.
type testCase struct {
	Text string `json:"text"`
}

// draftTest reads a row as a test of the rules.
func (c *call) draftTest() (answer, error) {
	question := control.WhyQuestion{Table: c.query.text("table"), Key: c.query.text("key")}
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	text, err := c.control.DraftTest(c.ctx, c.actor, question)
	return answer{body: testCase{string(text)}}, err
}

// sentence makes an error's text a problem's detail.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:] + "."
}
