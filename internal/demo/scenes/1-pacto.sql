-- # 1 notificarCadastro: Pacto, Cadastro de cliente
-- when
insert into clientes (id, empresa_id, matricula, nome, cpf_cnpj, email, celular, dt_nascimento, sexo, situacao, dt_cadastro)
  values (1001, 1, 'M1001', 'Antônia D''Ávila', '52998224725', 'Antonia@Exemplo.com.br', '11987654321', '1990-02-28', 'F', 'VI', '2025-03-01 10:00');
-- silent: a touch and a save that changes nothing
update clientes set nome = nome where id = 1001;
-- silent: a row that is imported as deleted
insert into clientes (id, empresa_id, nome, excluido_em) values (1002, 1, 'Importado', '2025-01-01');
-- silent: rolled back to a savepoint
begin;
savepoint ficha;
insert into clientes (id, empresa_id, nome) values (1003, 1, 'Desistiu');
rollback to savepoint ficha;
update empresas set ativo = 'S' where id = 1;
commit;

-- # 2 notificarContrato: Pacto, Contrato lançado
-- given
insert into clientes (id, empresa_id, matricula, nome, cpf_cnpj, situacao) values (2001, 1, 'M2001', 'Bento Araújo', '52998224725', 'AT');
insert into contratos (id, empresa_id, cliente_id, produto_id, numero, situacao, dt_inicio, valor_mensal, dt_lancamento)
  values (2002, 1, 2001, 3, 'C2002', 'RA', '2025-04-01', 99.9, '2025-03-20 09:00');
-- when
insert into contratos (id, empresa_id, cliente_id, produto_id, numero, dt_inicio, dt_fim, valor_mensal, consultor, dt_lancamento)
  values (2001, 1, 2001, 3, 'C2001', '2025-04-01', '2026-03-31', 129.9, 'Carla', '2025-03-20 09:00');
-- when: a draft is confirmed
update contratos set situacao = 'AT' where id = 2002;
-- silent: a draft
insert into contratos (id, empresa_id, cliente_id, dt_inicio, situacao) values (2003, 1, 2001, '2025-04-01', 'RA');
-- silent: a draft that is thrown away, and one that is edited
update contratos set situacao = 'CA' where id = 2003;
-- silent: the other direction
update contratos set situacao = 'TR' where id = 2001;
update contratos set situacao = 'AT' where id = 2001;

-- # 3 notificarVendaAvulsa: Pacto, Venda avulsa
-- when
begin;
insert into vendas_avulsas (id, empresa_id, dt_venda, consultor) values (3001, 1, '2025-05-02 18:30', 'Rui');
insert into vendas_avulsas_itens values (3001, 1, 2, 2, 5.00);
insert into vendas_avulsas_itens values (3001, 2, 1, 1, 199.90);
update vendas_avulsas set total = 209.90, situacao = 'PG' where id = 3001;
commit;
-- silent: paid later
begin;
update vendas_avulsas set situacao = 'PG', total = 209.90 where id = 3001;
insert into vendas_avulsas_itens values (3001, 3, 2, 1, 0);
commit;
-- silent: cancelled before the commit
begin;
insert into vendas_avulsas (id, empresa_id) values (3002, 1);
update vendas_avulsas set situacao = 'CA' where id = 3002;
commit;
-- silent: given up before the commit
begin;
insert into vendas_avulsas (id, empresa_id) values (3003, 1);
delete from vendas_avulsas where id = 3003;
commit;

-- # 4 notificarPagamento: Pacto, Pagamento recebido
-- given
insert into clientes (id, empresa_id, matricula, nome, cpf_cnpj, situacao) values (4001, 1, 'M4001', 'Célia Gonçalves', '52998224725', 'AT');
-- when
begin;
insert into pagamentos (id, empresa_id, recibo, cliente_id, contrato_id, forma, valor, dt_pagamento, responsavel)
  values (4001, 1, 4100, 4001, 1, 'DI', 50.00, '2025-06-01 12:00', 'caixa');
insert into pagamentos (id, empresa_id, recibo, cliente_id, contrato_id, forma, valor, dt_pagamento, responsavel)
  values (4002, 1, 4100, 4001, 1, 'PX', 30.00, '2025-06-01 12:00', 'caixa');
insert into pagamentos (id, empresa_id, recibo, cliente_id, contrato_id, forma, valor, parcelas, nsu, dt_pagamento, responsavel)
  values (4003, 1, 4100, 4001, 1, 'CC', 49.90, 2, '778899', '2025-06-01 12:00', 'caixa');
commit;
-- silent: refunded
update pagamentos set estornado = 'S', dt_estorno = '2025-06-02 09:00' where id = 4002;
-- silent: entered as a refund
insert into pagamentos (id, empresa_id, recibo, cliente_id, forma, valor, estornado) values (4004, 1, 4101, 4001, 'DI', 10, 'S');
-- silent: undone before the commit
begin;
insert into pagamentos (id, empresa_id, recibo, cliente_id, forma, valor) values (4005, 1, 4102, 4001, 'DI', 10);
delete from pagamentos where id = 4005;
commit;

-- # 5 notificarAcesso: Pacto, Acesso liberado
-- given
insert into clientes (id, empresa_id, matricula, nome, situacao) values (5001, 1, 'M5001', 'Davi Lima', 'AT');
insert into contratos (id, empresa_id, cliente_id, produto_id, dt_inicio) values (5001, 1, 5001, 3, '2025-01-01');
-- when
insert into acessos (id, empresa_id, cliente_id, dt_acesso, sentido, coletor, meio, liberado)
  values (5001, 1, 5001, localtimestamp, 'ENTRADA', 'CAT01', 'F', true);
-- silent: on the way out
insert into acessos (id, empresa_id, cliente_id, dt_acesso, sentido, liberado) values (5002, 1, 5001, localtimestamp, 'SAIDA', true);
-- silent: refused at the turnstile
insert into acessos (id, empresa_id, cliente_id, dt_acesso, sentido, liberado) values (5003, 1, 5001, localtimestamp, 'ENTRADA', false);
-- silent: let in by hand, nobody knows whom
insert into acessos (id, empresa_id, dt_acesso, sentido, liberado) values (5004, 1, localtimestamp, 'ENTRADA', true);
-- silent: uploaded two days late
insert into acessos (id, empresa_id, cliente_id, dt_acesso, sentido, liberado) values (5005, 1, 5001, localtimestamp - interval '2 days', 'ENTRADA', true);
