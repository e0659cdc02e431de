// Package bench measures the bridge against a limit taken in the same run. It
// starts private servers and stops them at the end.
//
// The command under test runs as a process of its own, as do PostgreSQL, Redis
// and the receiver: everything shares this machine's cores, as it would where
// a small gym runs it all on one machine.
package bench
