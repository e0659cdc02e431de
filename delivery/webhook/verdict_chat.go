package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gancho/delivery/endpoint"
)

// chatAnswer is what the answers of chat services say beside their status, each a part of it.
type chatAnswer struct {
	RetryAfter json.Number `json:"retry_after"` // Discord, in seconds with decimals
	Code       int         `json:"code"`        // Discord
	Parameters struct {
		RetryAfter int64 `json:"retry_after"` // Telegram, in seconds
	} `json:"parameters"`
}

// unknownWebhook is Discord's code for one that was deleted:
// https://docs.discord.com/developers/topics/opcodes-and-status-codes#json
const unknownWebhook = 10015

// connectorError begins what a Teams connector answers with 200 when the message came to nobody.
// https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using
var connectorError = []byte("Webhook message delivery failed with error")

// judgeChat adds to the outcome of an answer what the chat service says in it: how long to
// wait, that the address was deleted, that a success is none. What it does not know has the
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
		// Its header says seconds, as does the body, which was in milliseconds in older versions of the API.
		// https://docs.discord.com/developers/topics/rate-limits#exceeding-a-rate-limit
		if wait, ok := seconds(answer.Header.Get("X-Ratelimit-Reset-After")); ok {
			o.RetryAfter = wait
		} else if wait, ok := seconds(told.RetryAfter.String()); ok {
			o.RetryAfter = wait
		}
	case t.chat == endpoint.Telegram && limited && told.Parameters.RetryAfter > 0:
		// https://core.telegram.org/bots/api#responseparameters
		o.RetryAfter, _ = seconds(strconv.FormatInt(told.Parameters.RetryAfter, 10))
	case t.chat == endpoint.Discord && o.Status == http.StatusNotFound && told.Code == unknownWebhook,
		// https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors
		t.chat == endpoint.Slack && o.Status == http.StatusNotFound && strings.TrimSpace(string(kept)) == "no_service":
		o.Kind = Gone
	case t.chat == endpoint.Teams && o.Kind == Delivered && bytes.HasPrefix(kept, connectorError):
		o.Kind, o.Class = Retry, ClassBody
		o.Err = fmt.Errorf("post to %s: answered %d, and in its body that the message was not delivered", t.origin, o.Status)
	}
}

// seconds reads a number of seconds with decimals, of which no more than maxRetryAfter count.
func seconds(text string) (time.Duration, bool) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0) { // NaN is neither
		return 0, false
	}
	return time.Duration(min(n, maxRetryAfter.Seconds()) * float64(time.Second)), true
}
