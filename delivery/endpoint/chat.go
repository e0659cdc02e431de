package endpoint

import (
	"slices"
	"strings"
)

// Chat is a chat service that messages are written for; 0: the endpoint is none.
type Chat uint8

// The chat services.
const (
	NoChat Chat = iota
	Slack
	Discord
	Telegram
	GoogleChat
	Teams
)

// chatStyles are the styles of chats, as the configuration spells them.
var chatStyles = []string{"", "slack", "discord", "telegram", "google_chat", "teams"}

// styleNames are all styles.
var styleNames = append([]string{superlogica}, chatStyles[1:]...)

// Styles returns the names of all styles.
func Styles() []string { return slices.Clone(styleNames) }

// Chat returns the chat service that the endpoint's style is of.
func (e *Endpoint) Chat() Chat { return Chat(max(0, slices.Index(chatStyles, e.Style))) }

// chatFields are the members of messages that Gancho itself writes, of all services.
var chatFields = []string{
	"text", "mrkdwn", "unfurl_links", "unfurl_media", "content", "allowed_mentions", "flags", "parse_mode", "link_preview_options", "type", "attachments",
}

const (
	maxFields    = 20  // of a message
	maxFieldPath = 200 // bytes
	chatID       = "chat_id"
)

// chatRates are how many requests a second the services take for longer, by their documentation
// where they have any:
//
//   - Slack: one a second. https://docs.slack.dev/apis/web-api/rate-limits
//   - Discord asks that no number be written into a program, and names none; 5 in 2 seconds is what
//     others have found. https://birdie0.github.io/discord-webhooks-guide/other/rate_limits.html
//   - Telegram: 20 a minute to a group. https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this
//   - Google Chat: 60 writes a minute to a space, of all its apps; newer editions of the page say
//     that incoming webhooks have further limits, and not which. https://developers.google.com/workspace/chat/limits
//   - Teams: 60 in 30 seconds, 4 in one; and 100 an hour, which a rate would make of each message's
//     half a minute. These are the connectors'; the numbers of workflows are not known.
//     https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using#rate-limiting-for-connectors
var chatRates = [...]float64{NoChat: 0, Slack: 1, Discord: 2.5, Telegram: 20.0 / 60, GoogleChat: 1, Teams: 2}

// setChat makes a chat's settings the endpoint's defaults.
func (e *Endpoint) setChat() {
	e.Format, e.NoStandard, e.Rate = FormatChat, true, chatRates[e.Chat()]
	switch e.Chat() {
	case Slack: // https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
		e.Success = Success{Status: [][2]int{{200, 200}}, Body: `^ok\s*$`}
	case Telegram: // https://core.telegram.org/bots/api#making-requests
		e.Success = Success{Status: [][2]int{{200, 200}}, Body: `"ok"\s*:\s*true\b`}
	}
}

// chatQuery is the query of the URL with what makes the chat service say whether it has the message:
// without wait, Discord answers 204 to one that it has not saved, too. An endpoint whose success is that
// answer alone is left as it is: the 200 with the message would be repeated after it was saved.
// https://docs.discord.com/developers/resources/webhook#execute-webhook
func (e *Endpoint) chatQuery(query string) string {
	names := strings.Split(query, "&")
	if e.Chat() != Discord || !e.Success.takesWaited() || slices.ContainsFunc(names, func(s string) bool { return s == "wait" || strings.HasPrefix(s, "wait=") }) {
		return query
	}
	if query != "" {
		query += "&"
	}
	return query + "wait=true"
}

// checkChat returns what is wrong with the settings that only chats have, or need.
func (e *Endpoint) checkChat() *SettingError {
	chat := e.Chat()
	_, hasID := e.Extra[chatID]
	switch {
	case chat != NoChat && e.Format != FormatChat:
		return mistakef("remove format, or style", "the style %s has a format of its own", e.Style)
	case chat == NoChat && e.Format == FormatChat:
		return mistakef("write such as style: slack", "messages for a chat need its style")
	case chat == NoChat && len(e.Fields) > 0:
		return mistakef("remove it, or write such as style: slack", "fields are those of a message for a chat")
	case chat == Telegram && !hasID:
		return mistakef("write extra: {chat_id: ...}, with the chat's number or @name", "the style telegram needs a chat_id")
	}
	return checkFields(e.Fields)
}

// checkFields returns what is wrong with the paths of a message's fields.
func checkFields(fields []string) *SettingError {
	if len(fields) > maxFields {
		return mistakef("leave some out", "%d fields are too many: at most %d", len(fields), maxFields)
	}
	for _, path := range fields {
		if len(path) > maxFieldPath || slices.Contains(strings.Split(path, "."), "") {
			return mistakef("write such as valor or cliente.nome", "%q is no path of a field of data", path)
		}
	}
	return nil
}
