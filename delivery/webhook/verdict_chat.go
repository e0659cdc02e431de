package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"gancho/delivery/endpoint"
)

// chatAnswer is what the answers of chat services say beside their status, each a part of it.
type chatAnswer struct {
	RetryAfter json.Number `json:"retry_after"` // Discord
	Parameters struct {
		RetryAfter int64 `json:"retry_after"`        // Telegram, in seconds
		MovedTo    int64 `json:"migrate_to_chat_id"` // Telegram: the group has become a supergroup
	} `json:"parameters"`
}

// slackGone are Slack's words, of a 404, for an address that leads nowhere any more: the webhook
// or its app was removed, or the channel. Slack documents channel_not_found with this status
// (https://api.slack.com/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks), and the others as words
// (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors). That those are 404, too, is
// what senders report; with another status they would have the meaning of that, and events would be kept all the same.
var slackGone = []string{"no_service", "no_active_hooks", "no_team", "channel_not_found"}

// connectorError is in what a Teams connector answers with 200 when the message came to nobody.
// https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using
var connectorError = []byte("Webhook message delivery failed with error")

// judgeChat adds to the outcome of an answer what the chat service says in it: how long to
// wait, that the address was deleted or the chat has moved, that a success is none. What it does not know has the
// meaning of its status.
func (t *preparedEndpoint) judgeChat(o *Outcome, answer *http.Response, kept []byte) {
	if t.chat == endpoint.NoChat {
		return
	}
	var told chatAnswer
	_ = json.Unmarshal(kept, &told) // Slack and Teams answer in words
	limited := o.Status == http.StatusTooManyRequests
	switch {
	case t.chat == endpoint.Discord && limited:
		if wait := discordWait(t.base.URL.Path, answer.Header, told.RetryAfter.String()); wait > 0 {
			o.RetryAfter = wait // else it is not Discord's own answer, but that of what stands in front of it
		}
	case t.chat == endpoint.Telegram && limited && told.Parameters.RetryAfter > 0:
		// https://core.telegram.org/bots/api#responseparameters
		o.RetryAfter = waitOf(strconv.FormatInt(told.Parameters.RetryAfter, 10), time.Second)
	case t.chat == endpoint.Telegram && o.Status == http.StatusBadRequest && told.Parameters.MovedTo != 0:
		// Every message would be answered so. https://core.telegram.org/bots/api#responseparameters has the field, and not
		// the status 400 that it comes with, which is what senders report: https://github.com/atipugin/telegram-bot-ruby/issues/40
		o.Kind = Gone
		o.Err = fmt.Errorf("post to %s: answered %d: the group has become a supergroup; write extra: {chat_id: \"%d\"}", t.origin, o.Status, told.Parameters.MovedTo)
	case o.Status == http.StatusNotFound && t.chat == endpoint.Discord,
		// "If a webhook returns a 404 status you should not attempt to use it again":
		// https://docs.discord.com/developers/topics/rate-limits#invalid-request-limit-aka-cloudflare-bans
		o.Status == http.StatusNotFound && t.chat == endpoint.Slack && slices.Contains(slackGone, strings.TrimSpace(string(kept))):
		o.Kind = Gone
	case t.chat == endpoint.Teams && o.Kind == Delivered && bytes.Contains(kept, connectorError):
		o.Kind, o.Class = Retry, ClassBody
		o.Err = fmt.Errorf("post to %s: answered %d, and in its body that the message was not delivered", t.origin, o.Status)
	}
}

// discordWait is how long Discord asks to wait, 0 if it does not say. The bucket of the header may
// be free long before the channel is, whose limit all its webhooks share (scope shared): then the
// body has the longer wait. https://docs.discord.com/developers/topics/rate-limits#exceeding-a-rate-limit
// Before version 8 of the API, which an address without a version means, the body is in
// milliseconds, without decimals. https://docs.discord.com/developers/reference#api-versioning
func discordWait(path string, h http.Header, body string) time.Duration {
	unit := time.Second
	if !strings.Contains(body, ".") && discordVersion(path) < 8 {
		unit = time.Millisecond
	}
	return max(waitOf(body, unit), waitOf(h.Get("X-Ratelimit-Reset-After"), time.Second))
}

// discordVersion is the version of the API in a webhook's address: /api/v10/webhooks; 0: none.
func discordVersion(path string) int {
	rest, _ := strings.CutPrefix(path, "/api/v")
	version, _, _ := strings.Cut(rest, "/")
	n, _ := strconv.Atoi(version) // 0 of what is none
	return n
}

// waitOf reads how many units of time to wait, with decimals, up to maxRetryAfter; 0: the text does not say.
func waitOf(text string, unit time.Duration) time.Duration {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0) { // NaN is neither
		return 0
	}
	return time.Duration(math.Round(min(n*float64(unit), float64(maxRetryAfter)))) // 64.57 is less than that as a float
}
