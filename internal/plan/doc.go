// Package plan changes the source for the rules: what of it is to be changed, who must do it
// at what cost, the changes themselves and the way back.
//
// A [Plan] is made of the statements that the checks of the source propose; nothing else is
// ever run, and a plan that was applied leaves none. [Plan.Apply] runs them one by one in their
// order. A statement that locks a table waits half a second at most, so that the application
// never queues behind it for longer, and is tried again after a pause. In the transaction of
// each statement it looks whether statements of the application would fail now that did not
// before; then the transaction is rolled back.
//
// Each statement is written into a [Record] before it runs, and once more after it, so that a
// process killed in between leaves none that is not known. The record is a file next to the
// configuration: a table of the state database would be created after what the plan is about,
// and in the source itself it would be a change that the plan does not show. [Record.Undo]
// takes back what it holds and nothing else, in the opposite order.
package plan
