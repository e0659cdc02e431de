package expr

// CheckSyntax parses an expression without looking at any table. The error is
// an Errors.
func CheckSyntax(src string) error {
	if _, err := parse(src, false); err != nil {
		return Errors{err}
	}
	return nil
}
