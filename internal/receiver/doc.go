// Package receiver is a receiver of webhooks for trying things: it is what
// `gancho listen` and the demo run.
//
// It verifies Standard Webhooks signatures, reads all formats, lists included,
// and notices what a careful receiver would: an event that it had accepted
// before, and an event older than one that it has accepted for the same row. Its
// memory is bounded, so it may miss a repeat that comes very late. It keeps
// nothing else and promises nothing: a webhook is lost with the process, and
// answering with failures or late is an option.
package receiver
