package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	"gancho/internal/api"
	"gancho/internal/control"
	"gancho/internal/state"
)

// Every request needs a token, except the one for the description of the API.
func ExampleNew() {
	handler := api.New(api.Options{
		Control:      control.New(control.Options{}),
		Authenticate: func(context.Context, string) (state.Token, error) { return state.Token{}, state.ErrNotFound },
		Version:      "v1.2.3",
	})
	for _, path := range []string{"/api/v1/openapi.json", "/api/v1/endpoints"} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		var body struct {
			Info   struct{ Version string }
			Type   string
			Detail string
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil {
			fmt.Println(err)
		}
		fmt.Println(answer.Code, body.Info.Version+body.Type)
		if body.Detail != "" {
			fmt.Println(body.Detail)
		}
	}
	// Output:
	// 200 v1.2.3
	// 401 urn:gancho:problem:unauthorized
	// The request has no token. Send the header Authorization: Bearer gancho_...; create a token with: gancho tokens create.
}
