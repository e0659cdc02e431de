package jsontext_test

import (
	"fmt"

	"gancho/internal/jsontext"
)

func ExampleAppendString() {
	fmt.Println(string(jsontext.AppendString(nil, "João \"Zé\"\n\xff")))
	// Output: "João \"Zé\"\n\ufffd"
}
