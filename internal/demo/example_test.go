package demo_test

import (
	"fmt"

	"gancho/internal/demo"
)

// The first scene of the tour.
func ExampleScenes() {
	scenes, err := demo.Scenes()
	if err != nil {
		fmt.Println(err)
		return
	}
	s := scenes[0]
	fmt.Println(s.Vendor, s.Title, s.Events)
	// Output: Pacto Cadastro de cliente [notificarCadastro]
}
