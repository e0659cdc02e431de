// Package ruletest runs unit tests of rules, without a server: cases of row changes and of
// the events that the rules make of them, in YAML files.
//
//	tests:
//	  - name: a payment is an event
//	    given: {update: cobrancas, old: {id: 1, status: P, valor: 10}, new: {status: L}}
//	    lookups:
//	      cliente: {nome: Ana}
//	    expect:
//	      - event: cobranca.liquidada
//	        key: 1
//	        data: {id: 1, valor: 10.00, cliente: Ana}
//	  - name: another change of it is none
//	    given: {update: cobrancas, old: {id: 1, status: L}, new: {valor: 11}}
//	    expect: none
//
// Values mean what PostgreSQL's text input means for the column's type; a column that is
// not named is null, and in new, of an update, as in old. Several changes in given are one
// transaction. The rules are bound to a saved catalogue (mapping.Rules.BindTo), or to the
// source. Load reports all mistakes of all files together, with their places.
//
// A Suite belongs to one goroutine. Errors may hold values of the cases, which are
// somebody's own test data.
package ruletest
