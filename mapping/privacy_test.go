package mapping_test

import (
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/mapping"
)

// A change is parked with the columns that its rule names; those that the rule
// only shows masked are not among them, and the masks themselves never fail.
func TestParkedRowsHideMaskedColumns(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rs := bind(t, conn, mapping.Options{Secrets: map[string][]byte{"cpf": []byte("0123456789abcdef")}}, `
rules:
  - event: mascarado
    table: clientes
    on: update
    when: new.cpf_cnpj <> '' and 1 / (id - 7) is not null
    watch: [email, cpf_cnpj]
    columns: [id, nome]
    previous: true
    data:
      cpf: mask_cpf(cpf_cnpj)
      email: mask_email(email)
      busca: hmac(cpf_cnpj, 'cpf')
      observacao: mask_phone(observacao)
  - event: as_claras
    table: clientes
    on: update
    key: email
    data: {cpf: mask_cpf(cpf_cnpj), documento: cpf_cnpj, email: mask_email(email), falha: 1 / (id - 7)}
`)
	clientes := relation(t, conn, "public", "clientes")
	base := values{
		"id": "7", "nome": "Ana", "cpf_cnpj": "12345678909", "email": "ana@exemplo.com", "observacao": "fone 11987654321",
		"empresa_id": "1", "situacao": "AT", "ativo": "S",
	}
	before := with(base, values{"email": "ana.velha@exemplo.com"})
	parked := run(t, mapping.NewMapper(rs, nil), change(clientes, cdc.Update, before, base))
	if len(parked) != 2 || parked[0].Parked == "" || parked[1].Parked == "" {
		t.Fatalf("want two parked changes, got %+v", parked)
	}
	diff(t, "row", parked[0].Row, `{"new":{"id":"7","nome":"Ana"},"old":{"id":"7","nome":"Ana"}}`)
	// What the payload or the key would show in clear is parked in clear.
	diff(t, "row", parked[1].Row, `{"new":{"id":"7","cpf_cnpj":"12345678909","email":"ana@exemplo.com"},"old":{"id":"7","cpf_cnpj":"12345678909","email":"ana.velha@exemplo.com"}}`)

	sent := run(t, mapping.NewMapper(rs, nil), change(clientes, cdc.Update, with(before, values{"id": "8"}), with(base, values{"id": "8"})))
	if len(sent) != 2 {
		t.Fatalf("want two events, got %+v", sent)
	}
	if !strings.HasPrefix(sent[0].Data, `{"id":8,"nome":"Ana","cpf":"***.456.789-**","email":"a***@exemplo.com","busca":"`) {
		t.Errorf("the payload is %s", sent[0].Data)
	}
	for _, clear := range []string{"12345678909", "ana@", "ana.velha", "11987654321"} {
		if strings.Contains(sent[0].Data+sent[0].Previous, clear) {
			t.Errorf("%q is sent in clear: %s %s", clear, sent[0].Data, sent[0].Previous)
		}
	}
}
