package queue_test

import (
	"fmt"

	"gancho/cdc"
	"gancho/delivery/queue"
)

// An event's id is its place in the WAL. Receivers get it as the webhook-id,
// which begins with the source, and as a sequence, which sorts as text.
func ExampleID() {
	id, err := queue.NewID(1, cdc.Position{Commit: 0x16_B374D848, Ordinal: 7}, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("in redis:  ", id)
	fmt.Println("webhook-id:", id.WebhookID("a1b2c3d4"))
	fmt.Println("sequence:  ", id.Sequence())

	parsed, err := queue.ParseID(id.String())
	fmt.Println(parsed == id, parsed.Position().Commit, err)
	// Output:
	// in redis:   4503697127430216-458752
	// webhook-id: a1b2c3d4-001-00000016b374d848-000000000007-0000
	// sequence:   001-00000016b374d848-000000000007-0000
	// true 16/B374D848 <nil>
}

func ExampleParseWebhookID() {
	source, id, err := queue.ParseWebhookID("a1b2c3d4-001-00000016b374d848-000000000007-0000")
	fmt.Println(source, id.Epoch(), id.Position().Commit, id.Position().Ordinal, id.N(), err)

	_, _, err = queue.ParseWebhookID("evt_42")
	fmt.Println(err)
	// Output:
	// a1b2c3d4 1 16/B374D848 7 0 <nil>
	// parse webhook-id "evt_42": want <source>-<epoch>-<lsn>-<ordinal>-<n> as it was sent
}
