package endpoint_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"gancho/delivery/endpoint"
)

func TestHiddenIsNeverPrinted(t *testing.T) {
	t.Parallel()
	s := endpoint.Hidden("segredo")
	holder := struct {
		S endpoint.Hidden
		P *endpoint.Hidden
		L []endpoint.Hidden
	}{s, &s, []endpoint.Hidden{s}}
	asJSON, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{
		fmt.Sprint(s), fmt.Sprintf("%s %q %v %+v %#v %x %d", s, s, s, s, s, s, s), fmt.Sprintf("%v %+v %#v", holder, holder, holder),
		string(asJSON), string(asYAML), fmt.Errorf("connect: %v", s).Error(),
	} {
		if strings.Contains(got, "segredo") || strings.Contains(got, "7365") || !strings.Contains(got, "***") {
			t.Errorf("printed as %s", got)
		}
	}
}
