package cdc_test

import (
	"slices"
	"testing"

	"gancho/cdc"
)

// TestMatchNames: a shell takes the quotes of a name.
func TestMatchNames(t *testing.T) {
	t.Parallel()
	names := []cdc.Name{
		{Schema: "public", Name: "CONSULTAS"}, {Schema: "public", Name: "vendas"}, {Schema: "loja 01", Name: "vendas"},
		{Schema: "public", Name: "Item"}, {Schema: "public", Name: "item"}, {Schema: "public", Name: "pedido item"},
	}
	for text, want := range map[string][]cdc.Name{
		"vendas": {names[1], names[2]}, "public.vendas": {names[1]}, `"loja 01".vendas`: {names[2]}, "loja 01.vendas": {names[2]},
		"CONSULTAS": {names[0]}, `"CONSULTAS"`: {names[0]}, "public.CONSULTAS": {names[0]}, "consultas": nil,
		"Item": {names[4]}, `"Item"`: {names[3]}, "pedido item": {names[5]}, "pedidos": nil,
	} {
		if meant, err := cdc.MatchNames(text, names); err != nil || !slices.Equal(meant, want) {
			t.Errorf("%s: %v, %v; want %v", text, meant, err, want)
		}
	}
	if _, err := cdc.MatchNames("a b", names); err == nil {
		t.Error("what is no name and none of them has no error")
	}
}
