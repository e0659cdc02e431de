// Package doctor looks at everything that Gancho stands on: the configuration and the
// rules, the source's server and its settings, the slot and who holds it back, what the
// replica identities cost, Redis, the receivers, the state database. It says what it has
// found as findings, the good ones too, each with why it matters, what to type, who must
// run it, and where the setting is on a managed service.
//
// It changes nothing: its statements run in read-only transactions, each with a timeout,
// and wait for no lock of the application for longer than a second; receivers are
// connected to and sent nothing. What cannot be reached is a finding, and what depends on
// it is skipped; the rest goes on. No finding holds row data or a secret: of other
// sessions' statements it has the words without their literals, and these only where the
// role may see them.
//
// Parts run at the same time, each within its own time.
package doctor
