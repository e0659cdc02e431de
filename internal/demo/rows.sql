-- A gym and shop of two units in mid-life, beside the few rows of the legacy seed: what the demo's day starts from.
SET client_encoding = 'UTF8';

INSERT INTO clientes (empresa_id, matricula, nome, cpf_cnpj, email, celular, dt_nascimento, sexo, cep, cidade, uf, dia_vencimento, situacao, tags, dados_extras)
SELECT 1 + g % 2, lpad((1000 + g)::text, 6, '0'),
       (ARRAY['Ana','João','Maria','José','Antônia','Francisco','Luíza','Paulo','Conceição','Márcio'])[1 + g % 10] || ' '
         || (ARRAY['da Silva','dos Santos','Oliveira','Souza','Araújo','Gonçalves','Pereira','Lima'])[1 + g / 10 % 8] || ' ' || g,
       lpad((10000000000 + g)::text, 11, '0'), 'cliente' || g || '@exemplo.com.br', '119' || lpad(g::text, 8, '0'),
       date '1960-01-01' + g % 18000, (ARRAY['F','M'])[1 + g % 2], '01310100', 'São Paulo', 'SP', 5 * (1 + g % 5),
       CASE WHEN g % 12 = 0 THEN 'VI' ELSE 'AT' END,
       CASE WHEN g % 7 = 0 THEN ARRAY['vip', 'manhã'] END, jsonb_build_object('origem', (ARRAY['site','balcão','indicação'])[1 + g % 3])
FROM generate_series(1, 6000) g;

INSERT INTO produtos (empresa_id, codigo, tipo, descricao, preco, custo, peso_kg)
SELECT 1 + g % 2, 'SUP' || lpad(g::text, 4, '0'), 'P', 'Suplemento nº ' || g, 20 + g * 3.35, 10 + g, 0.3 + g * 0.05
FROM generate_series(1, 30) g;

INSERT INTO contratos (empresa_id, cliente_id, produto_id, numero, dt_inicio, dt_fim, duracao, valor_mensal, consultor)
SELECT empresa_id, id, 3, 'C' || lpad(id::text, 8, '0'), date '2026-01-05', date '2027-01-04', '1 year', 99.90 + id % 5 * 15, 'Carla'
FROM clientes WHERE situacao = 'AT' AND id % 4 = 0;

INSERT INTO pagamentos (empresa_id, recibo, cliente_id, forma, valor, responsavel)
SELECT empresa_id, 500 + id, id, (ARRAY['PX','CC','DI'])[1 + id % 3], 129.90, 'caixa'
FROM clientes WHERE situacao = 'AT' AND id % 10 = 0;

INSERT INTO pedidos (empresa_id, numero, cliente_id, carrinho_id, status, subtotal, frete, desconto, total, entrega)
SELECT 1 + g % 2, lpad(g::text, 8, '0'), 40 + g, gen_random_uuid(), (ARRAY['00','10','20','30','40'])[1 + g % 5], 100 + g, 15, 0, 115 + g,
       '{"cidade": "São Paulo", "uf": "SP"}'
FROM generate_series(1, 60) g;

ANALYZE;
