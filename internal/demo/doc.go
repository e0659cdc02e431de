// Package demo shows the whole of Gancho in a minute: private PostgreSQL and
// Redis servers, the legacy schema, the bridge with the rules of the directory
// rules, traffic like a working day's, and receivers that print the webhooks as
// they arrive.
//
// It counts as well. The traffic knows which webhooks each of its transactions
// must cause, and Run fails unless exactly those arrived, each with a valid
// signature and in the order of its key. It is a test that a newcomer can
// run.
//
// Everything it starts belongs to it: the servers live in temporary directories
// on free ports of the loopback interface, the kernel kills them when the
// process ends, and Run returns only when the traffic, the bridge and the
// receivers have ended and the directories have been removed.
package demo
