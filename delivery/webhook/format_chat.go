package webhook

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"gancho/delivery/endpoint"
	"gancho/internal/jsontext"
)

const (
	// usualFields is how many fields a message shows whose endpoint names none.
	usualFields = 10
	// maxChatTitle and maxChatName bound what stands before the values, in bytes.
	maxChatTitle, maxChatName = 250, 200
	cut                       = "…"
	// reserve is what a last line of an ellipsis takes at most, and a text that only is one.
	reserve = 16
)

// chatShape is how messages for a chat service are written: a title, and a line for each
// field. What a text of the service means something else with is escaped, no link is
// previewed, and what does not fit is cut with an ellipsis. It has no last brace.
type chatShape struct {
	fields      []string // paths in data; none: the first few
	before      string   // the text
	behind      string
	mark        string                                  // around the title
	escape      func(dst []byte, before, c rune) []byte // before: the character before c, 0 at the beginning
	length      func(text []byte) int
	limit       int // of the text, in the unit of length
	cardOfLines bool
}

// chatShapes are those of the services.
var chatShapes = map[endpoint.Chat]chatShape{
	// https://docs.slack.dev/messaging/formatting-message-text has the three characters that
	// are escaped, and mrkdwn: false, without which * and _ in a value would be markup, which
	// nothing escapes. https://docs.slack.dev/reference/methods/chat.postMessage#truncating
	// recommends 4,000 characters, #unfurling_content has how links stay links.
	endpoint.Slack: {
		before: `{"text":`, behind: `,"mrkdwn":false,"unfurl_links":false,"unfurl_media":false`,
		escape: escapeSlack, length: utf16Length, limit: 4000,
	},
	// https://docs.discord.com/developers/resources/webhook#execute-webhook: up to 2000 characters.
	// No mention reaches anybody (allowed_mentions), and flags 4 is SUPPRESS_EMBEDS.
	endpoint.Discord: {
		before: `{"content":`, behind: `,"allowed_mentions":{"parse":[]},"flags":4`,
		mark: "**", escape: escapeDiscord, length: utf16Length, limit: 2000,
	},
	// https://core.telegram.org/bots/api#sendmessage: 1 to 4096 characters. A text without
	// parse_mode has no markup, but @name in it still calls that member.
	endpoint.Telegram: {
		before: `{"text":`, behind: `,"link_preview_options":{"is_disabled":true}`,
		escape: escapeTelegram, length: utf16Length, limit: 4096,
	},
	// https://developers.google.com/workspace/chat/create-messages: "the maximum message size (including any text or cards) is
	// 32,000 bytes", not saying of which form. We count those of the text in JSON, which no other form of it exceeds, and leave
	// 1,000 for the rest. https://developers.google.com/workspace/chat/format-messages: <users/all>
	// and <url|text> are mentions and links, and there is no escape.
	endpoint.GoogleChat: {
		before: `{"text":`, mark: "*", escape: escapeGoogleChat, length: jsonLength, limit: 31000,
	},
	// An Adaptive Card as Workflows takes it, of RichTextBlocks, in whose TextRuns nothing is
	// markup: https://learn.microsoft.com/en-us/adaptive-cards/schema-explorer/text-run
	// 28 KB, of which each line's own braces take a part:
	// https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
	endpoint.Teams: {
		before: `{"type":"message","attachments":[{"contentType":"application/vnd.microsoft.card.adaptive","content":` +
			`{"$schema":"http://adaptivecards.io/schemas/adaptive-card.json","type":"AdaptiveCard","version":"1.2","body":`,
		behind: `}}]`, escape: escapeNothing, length: jsonLength, limit: 20000, cardOfLines: true,
	},
}

// newChatShape returns the shape of an endpoint of a chat; of another it has no members.
func newChatShape(ep *endpoint.Endpoint) *chatShape {
	s, ok := chatShapes[ep.Chat()]
	if !ok {
		s = chatShapes[endpoint.Slack]
	}
	s.fields = ep.Fields
	return &s
}

func escapeNothing(dst []byte, _, c rune) []byte { return utf8.AppendRune(dst, c) }

func escapeSlack(dst []byte, _, c rune) []byte {
	switch c {
	case '&':
		return append(dst, "&amp;"...)
	case '<':
		return append(dst, "&lt;"...)
	case '>':
		return append(dst, "&gt;"...)
	}
	return utf8.AppendRune(dst, c)
}

// escapeDiscord: a backslash before a character of markup makes it one of text, and an address
// without its colon is no link.
// https://support.discord.com/hc/en-us/articles/210298617-Markdown-Text-101-Chat-Formatting-Bold-Italic-Underline
func escapeDiscord(dst []byte, _, c rune) []byte {
	if strings.ContainsRune("\\*_~`|>#-[]()<@:", c) {
		dst = append(dst, '\\')
	}
	return utf8.AppendRune(dst, c)
}

// escapeGoogleChat: behind a zero-width space nothing is a mention or a link.
func escapeGoogleChat(dst []byte, _, c rune) []byte {
	dst = utf8.AppendRune(dst, c)
	if c == '<' {
		dst = append(dst, "\u200b"...)
	}
	return dst
}

// escapeTelegram: behind a zero-width space nothing is a name. An address of e-mail calls nobody, and
// can still be copied.
func escapeTelegram(dst []byte, before, c rune) []byte {
	dst = utf8.AppendRune(dst, c)
	if c == '@' && before != '_' && !unicode.IsLetter(before) && !unicode.IsDigit(before) {
		dst = append(dst, "\u200b"...)
	}
	return dst
}

// utf16Length is how many units of UTF-16 the text has, of which no service counts more as a
// character.
func utf16Length(text []byte) (n int) {
	for _, c := range string(text) {
		if n++; c > 0xffff {
			n++
		}
	}
	return n
}

// jsonLength is how many bytes the text takes in a JSON string.
func jsonLength(text []byte) int { return len(jsontext.AppendString(nil, string(text))) - len(`""`) }

// append appends the message but for its last brace.
func (s *chatShape) append(dst []byte, m *Message) []byte {
	lines := []chatField{}
	if m.Tenant != "" {
		lines = append(lines, chatField{"tenant", m.Tenant})
	}
	lines = append(lines, chatFields(m.Data, s.fields)...)
	left := s.limit - reserve
	title := s.mark + s.escaped(cmp.Or(m.Title, m.Type), &left, maxChatTitle) + s.mark
	left -= 2 * len(s.mark)
	dst = append(dst, s.before...)
	if s.cardOfLines {
		dst = s.appendCard(dst, title, lines, left)
	} else {
		dst = s.appendText(dst, title, lines, left)
	}
	return append(dst, s.behind...)
}

func (s *chatShape) appendText(dst []byte, title string, lines []chatField, left int) []byte {
	text := []byte(title)
	for _, f := range lines {
		if left -= len("\n: "); left <= 0 {
			text = append(text, "\n"+cut...)
			break
		}
		text = append(append(text, '\n'), s.escaped(f.name, &left, maxChatName)...)
		text = append(append(text, ": "...), s.escaped(f.value, &left, s.limit)...)
	}
	return jsontext.AppendString(dst, string(text))
}

func (s *chatShape) appendCard(dst []byte, title string, lines []chatField, left int) []byte {
	const begin, end = `{"type":"RichTextBlock","inlines":[{"type":"TextRun","weight":"Bolder","text":`, `]}`
	dst = jsontext.AppendString(append(append(dst, '['), begin...), title)
	dst = append(append(dst, '}'), end...)
	for _, f := range lines {
		if left -= len(begin) + len(end) + 4*len(`""},`); left <= 0 {
			break
		}
		dst = jsontext.AppendString(append(append(dst, ','), begin...), s.escaped(f.name, &left, maxChatName)+": ")
		dst = jsontext.AppendString(append(dst, `},{"type":"TextRun","text":`...), s.escaped(f.value, &left, s.limit))
		dst = append(append(dst, '}'), end...)
	}
	return append(dst, ']')
}

// escaped returns the text in one line, escaped, as much of it as most and left allow, which it
// takes from left.
func (s *chatShape) escaped(text string, left *int, most int) string {
	room, ellipsis := min(most, *left), s.length([]byte(cut))
	var out, piece []byte
	used, kept, keptUsed := 0, 0, 0 // kept: what leaves room for the ellipsis
	var before rune
	for _, c := range text {
		if c < ' ' || c == '\u2028' || c == '\u2029' {
			c = ' '
		}
		piece = s.escape(piece[:0], before, c)
		before = c
		n := s.length(piece)
		if used+n > room {
			*left -= keptUsed + ellipsis
			return string(out[:kept]) + cut
		}
		out = append(out, piece...)
		if used += n; used+ellipsis <= room {
			kept, keptUsed = len(out), used
		}
	}
	*left -= used
	return string(out)
}

// chatField is a line of a message.
type chatField struct{ name, value string }

// chatFields are the fields of data at the paths, or its first texts, numbers and truth
// values. Numbers have their own digits. What is not there, or null, is a dash.
func chatFields(data []byte, paths []string) []chatField {
	var out []chatField
	if len(paths) > 0 {
		for _, path := range paths {
			out = append(out, chatField{path, chatValue(valueAt(data, path))})
		}
		return out
	}
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) == 0 || trimmed[0] != '{' {
		return []chatField{{"data", chatValue(trimmed)}}
	}
	var members map[string]json.RawMessage
	_ = json.Unmarshal(data, &members) // what is no object has none
	for _, name := range keys(data) {
		value := members[name]
		if len(value) == 0 || bytes.IndexByte([]byte("{[n"), value[0]) >= 0 { // n: null
			continue
		}
		if out = append(out, chatField{name, chatValue(value)}); len(out) == usualFields {
			break
		}
	}
	return out
}

// valueAt returns the JSON value at a path; nil: there is none.
func valueAt(data []byte, path string) []byte {
	if whole := member(data, path); whole != nil {
		return whole // a key may have points of its own
	}
	outer, inner, nested := strings.Cut(path, ".")
	if !nested {
		return nil
	}
	return valueAt(member(data, outer), inner)
}

// member returns that of a JSON object; nil: there is none.
func member(object []byte, name string) []byte {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(object, &members) // what is no object has none
	return members[name]
}

// chatValue is how a JSON value is written for people.
func chatValue(value []byte) string {
	if len(value) == 0 || string(value) == "null" {
		return "–"
	}
	if text, ok := appendUnquoted(nil, value); ok {
		return string(text)
	}
	return string(value)
}
