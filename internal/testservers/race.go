//go:build race

package testservers

// raced: the test has the race detector.
const raced = true
