package control_test

import (
	"context"
	"errors"
	"fmt"

	"gancho/internal/control"
	"gancho/internal/state"
)

// The role is checked before anything else; then an operation says what it lacks.
func ExampleService_Tokens() {
	service := control.New(control.Options{}) // no state.key: no store
	viewer := control.Actor{Name: "token:painel", Role: state.Viewer}
	_, err := service.Tokens(context.Background(), viewer)
	fmt.Println(err)

	admin := control.Actor{Name: "cli:ana", Role: state.Admin}
	_, err = service.Tokens(context.Background(), admin)
	fmt.Println(errors.Is(err, control.ErrNoState))
	// Output:
	// this needs the role admin
	// true
}

// A mistake has a place, what is wrong, and what to write instead.
func ExampleInvalidError() {
	service := control.New(control.Options{Store: new(state.Store)})
	operator := control.Actor{Name: "token:suporte", Role: state.Operator}
	_, err := service.CreateRedrive(context.Background(), operator, state.Job{Rate: -1}, true)
	fmt.Println(err)
	// Output:
	// rate: -1 is not a rate; write the most events a second, or leave it out
}
