//go:build !race

package testservers

// raced: the test has no race detector.
const raced = false
