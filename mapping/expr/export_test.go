package expr

// Reformat parses a source and writes its tree in the normal form.
func Reformat(src string) (string, error) {
	n, err := parse(src, false)
	if err != nil {
		return "", err
	}
	return format(n), nil
}

// Catalog is the embedded catalogue.
var Catalog = catalogText
