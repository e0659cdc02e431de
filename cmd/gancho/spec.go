package main

import (
	"gancho/config"
	"gancho/internal/control"
)

// specOf reads an endpoint's document for control.
func specOf(origin string, document []byte) (control.Spec, error) {
	e, err := config.ParseEndpoint(origin, document)
	if err != nil {
		return control.Spec{}, err
	}
	d, err := endpointOf(&e)
	if err != nil {
		return control.Spec{}, err
	}
	return control.Spec{Endpoint: d, Document: e.Document(), Public: e.Public()}, nil
}
