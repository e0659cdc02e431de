#!/bin/sh
# A little traffic for docker-compose.yml (profile traffic): about two changes a second, until it is stopped.
set -eu
i=0
while :; do
	i=$((i + 1))
	psql -q -v ON_ERROR_STOP=1 -v i="$i" <<'SQL'
INSERT INTO acessos (empresa_id, cliente_id, dt_acesso, sentido, coletor, meio, liberado)
SELECT empresa_id, id, localtimestamp, 'ENTRADA', 'CAT01', 'B', true FROM clientes WHERE id = 1 + :i % 20;
UPDATE clientes SET email = 'novo' || :i || '@exemplo.com.br' WHERE id = 1 + :i % 20;
UPDATE clientes SET nome = nome WHERE id = 1 + :i % 20;
INSERT INTO pagamentos (empresa_id, recibo, cliente_id, forma, valor)
SELECT empresa_id, 1000 + :i, id, 'PX', 129.90 FROM clientes WHERE id = 1 + :i % 20 AND :i % 3 = 0;
SQL
	sleep 1
done
