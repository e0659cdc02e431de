package main_test

import (
	"bytes"
	"context"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gancho/internal/testservers"
)

const maskedRules = `
rules:
  - event: cliente.novo
    table: clientes
    on: insert
    data: &cliente
      id: id
      cpf: mask_cpf(cpf_cnpj)
      email: mask_email(email)
      fone: mask_phone(celular)
      busca: hmac(cpf_cnpj, 'cpf')
      metade: 100 / (id - 2)
  - event: cliente.mudou
    table: clientes
    on: update
    watch: [cpf_cnpj, email]
    previous: true
    collapse: id
    data: *cliente
  - event: cartao.negado
    table: cartoes
    on: insert
    data: {id: id, final: last4(numero), cpf: mask_cpf(cliente.cpf_cnpj), indicado: mask_email(indicado.email)}
    lookup:
      cliente: select cpf_cnpj from clientes where id = new.cliente_id
      indicado: select email from clientes where id = new.indicado_por::int
`

// personal are the values that must not be found anywhere, as they are in the
// database.
func personal() []string {
	return []string{
		"12345678909", "98765432100", "11122233344", "55566677788", "maria.silva@", "maria.nova@", "joao.souza@", "11987654321", "21912345678",
		"4111222233334444",
	}
}

// TestMaskedValuesNeverAppear searches everything that the bridge writes, with
// changes that are sent, refused by the receiver, parked by an expression and
// parked by a lookup, for what the rules mask.
func TestMaskedValuesNeverAppear(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, `
create table clientes (id int primary key, cpf_cnpj varchar(14), email text, celular varchar(20));
alter table clientes replica identity full;
create table cartoes (id int primary key, cliente_id int, numero varchar(19), indicado_por text)`)
	w.extra = "log: {level: trace}\nprivacy: {secrets: {cpf: chave-secreta-do-teste}}"
	w.rules = maskedRules
	r := newReceiver(t, nil)
	refusing := newReceiver(t, func(w http.ResponseWriter, _ arrival) { w.WriteHeader(http.StatusBadRequest) })
	w.endpoint("a", r.url())
	w.endpoint("b", refusing.url(), "retry_refused: [10ms]")
	b := w.run()
	w.exec(`insert into clientes values (1, '12345678909', 'maria.silva@exemplo.com', '11987654321'), (2, '98765432100', 'joao.souza@exemplo.com', '(21) 912345678'),
		(3, '111.222.333-44', 'sem arroba', '21912345678'), (4, '11122233344', null, null)`)
	w.exec("update clientes set cpf_cnpj = '55566677788', email = 'maria.nova@exemplo.com' where id in (1, 2)")
	w.exec("insert into cartoes values (1, 1, '4111222233334444', '3'), (2, 1, '4111222233334444', 'indicado 99988877766')")
	w.exec("insert into cartoes values (3, 1, '4111222233334444', '1')")
	all := r.waitCount(6) // clientes 1, 3, 4; the update of 1; cartoes 1 and 3
	b.waitLog("event moved to the dead letters")
	b.stop()

	// The test must have met every kind of place.
	client := w.redisClient()
	ids := map[string]bool{}
	var bodies bytes.Buffer
	for _, a := range all {
		ids[a.field("id")] = true
		bodies.Write(a.body)
	}
	for _, part := range []string{`"cpf":"***.456.789-**"`, `"email":"m***@exemplo.com"`, `"fone":"(11) *****-4321"`, `"final":"4444"`, `"cpf":"***.666.777-**"`, `"busca":"`} {
		if !strings.Contains(bodies.String(), part) {
			t.Errorf("no webhook has %s:\n%s", part, bodies.String())
		}
	}
	if len(ids) != 3 {
		t.Errorf("webhooks of %d ids arrived", len(ids))
	}
	keys, err := client.Keys(context.Background(), "*parked*").Result()
	if err != nil || len(keys) != 1 {
		t.Fatalf("the streams of parked changes are %v, %v", keys, err)
	}
	if n := client.XLen(context.Background(), keys[0]).Val(); n != 3 { // the insert and update of 2, cartão 2
		t.Errorf("%d changes are parked, want 3", n)
	}
	if n, err := client.XLen(context.Background(), "gancho:{b}:dead").Result(); err != nil || n == 0 {
		t.Errorf("%d dead letters, %v", n, err)
	}

	search(t, "the log", []byte(b.text()))
	if strings.Contains(b.text(), "99988877766") { // not masked, but PostgreSQL's own message quotes it
		t.Error("the log has a value that a lookup failed for")
	}
	search(t, "the webhooks", bodies.Bytes())
	// The append-only file has everything that was ever in Redis.
	files := 0
	err = filepath.WalkDir(w.redis.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte("***.456.789-**")) {
			files++
		}
		search(t, "Redis's file "+filepath.Base(path), content)
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("no file of Redis has what was sent: %v", err)
	}
}

func search(t *testing.T, where string, content []byte) {
	t.Helper()
	for _, value := range personal() {
		if i := bytes.Index(content, []byte(value)); i >= 0 {
			t.Errorf("%s has %q in clear: ...%s", where, value, content[max(0, i-200):min(len(content), i+50)])
		}
	}
	if bytes.Contains(content, []byte("chave-secreta-do-teste")) {
		t.Errorf("%s has the key of hmac()", where)
	}
}
