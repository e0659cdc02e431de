// Package contract describes the events that rules make, for those who receive them: as JSON
// Schemas, as an OpenAPI or AsyncAPI document, and as a page. It says what changes of the
// rules or the source would break a receiver.
//
// What an event holds is read from the rules as they are bound to the source
// (mapping.Payload), and what is around it from the formats (webhook.Envelope). A schema
// accepts every body that the bridge sends while both stay so. It leaves objects open:
// receivers must ignore what they do not know, because fields are added.
package contract
