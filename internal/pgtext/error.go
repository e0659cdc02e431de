package pgtext

// Error reports a value that PostgreSQL refuses too, with its SQLSTATE. It never
// contains the value.
type Error struct {
	// Code is the SQLSTATE: 22007 for a malformed date or time, 22008
	// for a date or time out of range, 22P02 for other malformed text, 22003
	// for a number out of range, 0A000 for what is not supported.
	Code    string
	Message string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

const (
	codeDatetimeSyntax = "22007"
	codeDatetimeRange  = "22008"
	codeTextSyntax     = "22P02"
	codeNumberRange    = "22003"
	codeUnsupported    = "0A000"
	codeParameter      = "22023"
)

func syntaxError(message string) error { return &Error{Code: codeTextSyntax, Message: message} }
func dateRange(what string) error {
	return &Error{Code: codeDatetimeRange, Message: what + " out of range"}
}
