// Package simulate runs rules over changes and sends nothing: over the live stream, by a
// temporary slot, over a recording of it, or over rows that exist. It touches neither
// Redis nor the bridge's slot, and writes nothing to the source.
//
// Rules are applied by the mapper of package mapping, lookups included, as the bridge
// applies them. A Simulation gathers what would have left in a Report: how many events each
// rule makes, how large they are, which endpoints take them, what would be parked, and a
// sample of each. With a second set of rules it compares, event by event, what the two make
// of the same changes.
//
// # Personal data
//
// A report holds row data in its samples and in examples of differences alone. There
// the values are masked whose columns or names say that they are personal, unless
// Options.Unmasked asks for them; what privacy.deny has is in no event to begin with. A
// recording holds whole rows: see Recorder.
//
// # Resources
//
// Memory does not grow with the number of changes, nor with that of rules' events: what is
// gathered is counted, and pending lookups, collected transactions and samples are bounded.
// A Simulation belongs to one goroutine, and ends with its context.
package simulate
