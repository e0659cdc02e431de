// Package examples holds receivers of webhooks to copy from, one folder for each language, and the tests that send to each of them what a
// receiver meets. None imports anything of this module. README.md says what they have in common.
package examples
