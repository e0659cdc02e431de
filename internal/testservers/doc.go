// Package testservers starts private PostgreSQL and Redis servers from the
// installed binaries, for tests, benchmarks and the demo.
//
// Every server has a temporary directory, a test's in memory if there is room,
// and a free port of the loopback interface, never a standard one. It is killed
// by the kernel when the process that started it ends, so a test that is killed
// leaves none behind. A missing binary is an error that names the package to
// install, never a reason to skip.
package testservers
