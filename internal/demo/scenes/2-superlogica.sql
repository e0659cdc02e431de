-- # 6 cliente.novo: Superlógica, Cliente novo
-- given
insert into clientes (id, empresa_id, nome, situacao) values (6002, 1, 'Visitante Paulo', 'VI');
-- when
insert into clientes (id, empresa_id, matricula, nome, cpf_cnpj, email, celular, endereco, cidade, uf, cep, situacao)
  values (6001, 1, 'M6001', 'Eva São João', '52998224725', 'Eva@Exemplo.com.br', '11912345678', 'Rua Augusta, 1', 'São Paulo', 'SP', '01310100', 'AT');
-- when: a visitor becomes a client
update clientes set situacao = 'AT' where id = 6002;
-- silent: a visitor
insert into clientes (id, empresa_id, nome) values (6003, 1, 'Só olhando');
-- silent: a visitor that is blocked
update clientes set situacao = 'BL' where id = 6003;
-- silent: back from blocked
update clientes set situacao = 'AT' where id = 6003;

-- # 7 cliente.atualizado: Superlógica, Cliente atualizado
-- given
insert into clientes (id, empresa_id, matricula, nome, cpf_cnpj, email, celular, situacao) values (7001, 1, 'M7001', 'Fábio Souza', '52998224725', 'fabio@exemplo.com.br', '11911112222', 'AT');
-- when
update clientes set email = 'fabio.souza@exemplo.com.br', celular = '11933334444' where id = 7001;
-- silent: a touch
update clientes set nome = nome, email = email where id = 7001;
-- silent: a pass at the turnstile
insert into acessos (id, empresa_id, cliente_id, dt_acesso, sentido, liberado) values (7001, 1, 7001, localtimestamp, 'SAIDA', true);
-- silent: a new photo
update clientes set foto = decode('ffd8ffe0', 'hex'), observacao = 'foto nova' where id = 7001;
-- silent: rolled back to a savepoint
begin;
savepoint edicao;
update clientes set nome = 'Fábio Errado' where id = 7001;
rollback to savepoint edicao;
commit;

-- # 8 cliente.desativado: Superlógica, Cliente desativado
-- given
insert into clientes (id, empresa_id, nome, situacao) values (8001, 1, 'Gil Pereira', 'AT'), (8002, 1, 'Hugo Reis', 'AT'), (8003, 1, 'Íris Melo', 'AT');
-- when
update clientes set situacao = 'DE', dt_desativacao = '2025-07-01 08:00' where id = 8001;
-- when: switched off
update clientes set ativo = 'N' where id = 8002;
-- when: deleted logically
update clientes set excluido_em = '2025-07-02 08:00' where id = 8003;
-- silent: a touch of a deactivated client
update clientes set observacao = 'saiu' where id in (8001, 8002, 8003);
-- silent: the other direction
update clientes set ativo = 'S', excluido_em = null where id in (8002, 8003);

-- # 9 cliente.reativado: Superlógica, Cliente reativado
-- given
insert into clientes (id, empresa_id, nome, situacao) values (9001, 1, 'Jonas Prado', 'DE');
-- silent: a touch
update clientes set nome = nome where id = 9001;
-- when
update clientes set situacao = 'AT' where id = 9001;
-- silent: frozen and back
update clientes set situacao = 'CO' where id = 9001;
update clientes set situacao = 'AT' where id = 9001;
-- silent: the other direction
update clientes set situacao = 'DE' where id = 9001;

-- # 10 cliente.status: Superlógica, Cliente status
-- given
insert into clientes (id, empresa_id, nome, situacao) values (10001, 1, 'Karina Dias', 'AT');
insert into cobrancas (id, empresa_id, cliente_id, valor, dt_emissao, dt_vencimento) values (10001, 1, 10001, 129.90, '2025-01-01', '2025-01-10'),
  (10002, 1, 10001, 129.90, '2025-02-01', '2025-02-10'), (10003, 1, 10001, 129.90, '2025-02-01', '2099-12-10');
-- when
update clientes set inadimplente = 'S', situacao = 'BL' where id = 10001;
-- silent: written as it was
update clientes set inadimplente = 'S', situacao = 'BL ' where id = 10001;
-- silent: deactivated, and so another event
update clientes set situacao = 'DE' where id = 10001;

-- # 11 produto.novo: Superlógica, Produto ou serviço novo
-- when
insert into produtos (id, empresa_id, codigo, tipo, descricao, preco) values (11001, 1, 'AVAL', 'S', 'Avaliação física', 80);
-- silent: an update
update produtos set preco = 85 where id = 11001;
-- silent: rolled back to a savepoint
begin;
savepoint cadastro;
insert into produtos (id, empresa_id, codigo, descricao, preco) values (11002, 1, 'ERRO', 'Errado', 1);
rollback to savepoint cadastro;
commit;

-- # 12 produto.atualizado: Superlógica, Produto ou serviço atualizado
-- given
insert into produtos (id, empresa_id, codigo, tipo, descricao, preco) values (12001, 1, 'PLANO-A', 'L', 'Plano anual', 1200);
-- when
update produtos set preco = 1290.50, descricao = 'Plano anual livre' where id = 12001;
-- silent: the cost and a touch
update produtos set custo = 300, preco = preco where id = 12001;
-- silent: with a change of its situation
update produtos set preco = 1, situacao = 'I' where id = 12001;

-- # 13 produto.desativado: Superlógica, Produto ou serviço desativado
-- given
insert into produtos (id, empresa_id, codigo, tipo, descricao, preco) values (13001, 1, 'PILATES', 'S', 'Pilates', 250);
-- when
update produtos set situacao = 'I' where id = 13001;
-- silent: a touch
update produtos set descricao = descricao where id = 13001;
-- silent: the other direction
update produtos set situacao = 'A' where id = 13001;
-- silent: deleted logically
update produtos set situacao = 'E' where id = 13001;

-- # 14 produto.excluido: Superlógica, Produto ou serviço excluído
-- given
insert into produtos (id, empresa_id, codigo, tipo, descricao, preco) values (14001, 1, 'SPINNING', 'S', 'Spinning', 150), (14002, 1, 'BOXE', 'S', 'Boxe', 180);
-- silent: only switched off
update produtos set situacao = 'I' where id = 14001;
-- when
update produtos set situacao = 'E', excluido_em = '2025-08-01' where id = 14001;
-- when: the row itself
delete from produtos where id = 14002;
-- silent: a touch of one that is gone
update produtos set descricao = 'Spinning (extinto)' where id = 14001;
-- silent: the other direction
update produtos set situacao = 'A', excluido_em = null where id = 14001;

-- # 15 contrato.novo: Superlógica, Contrato novo
-- given
insert into clientes (id, empresa_id, nome, cpf_cnpj, situacao) values (15001, 1, 'Lúcia Nunes', '52998224725', 'AT');
insert into contratos (id, empresa_id, cliente_id, produto_id, numero, situacao, dt_inicio, valor_mensal) values (15002, 1, 15001, 3, 'C15002', 'RA', '2025-04-01', 129.90);
-- when
begin;
insert into contratos (id, empresa_id, cliente_id, produto_id, numero, dt_inicio, dt_fim, duracao, valor_mensal)
  values (15001, 1, 15001, 3, 'C15001', '2025-04-01', '2026-03-31', '1 year', 129.90);
insert into mensalidades (id, empresa_id, contrato_id, produto_id, valor, dt_inicio) values (15001, 1, 15001, 3, 129.90, '2025-04-01');
commit;
-- when: a draft is confirmed
update contratos set situacao = 'AT' where id = 15002;
-- silent: a draft
insert into contratos (id, empresa_id, cliente_id, dt_inicio, situacao) values (15003, 1, 15001, '2025-04-01', 'RA');
-- silent: locked and unlocked
update contratos set situacao = 'TR' where id = 15001;
update contratos set situacao = 'AT' where id = 15001;

-- # 16 contrato.atualizado: Superlógica, Contrato atualizado
-- given
insert into clientes (id, empresa_id, nome, cpf_cnpj, situacao) values (16001, 1, 'Mauro Pinto', '52998224725', 'AT');
insert into contratos (id, empresa_id, cliente_id, produto_id, numero, dt_inicio, valor_mensal) values (16001, 1, 16001, 3, 'C16001', '2025-04-01', 129.90);
insert into contratos (id, empresa_id, cliente_id, produto_id, numero, situacao, dt_inicio, valor_mensal) values (16002, 1, 16001, 3, 'C16002', 'RA', '2025-04-01', 129.90);
insert into mensalidades (id, empresa_id, contrato_id, produto_id, valor, dt_inicio) values (16001, 1, 16001, 3, 129.90, '2025-04-01');
-- when
begin;
update contratos set valor_mensal = 149.90 where id = 16001;
update mensalidades set valor = 144.90 where id = 16001;
insert into mensalidades (id, empresa_id, contrato_id, produto_id, valor, dt_inicio) values (16002, 1, 16001, 2, 5, '2025-05-01');
commit;
-- when: only an item of it
delete from mensalidades where id = 16002;
-- silent: a touch
update contratos set consultor = 'Rui', observacao = 'ligar' where id = 16001;
-- silent: the item is written again as it was
begin;
update mensalidades set valor = 1 where id = 16001;
update mensalidades set valor = 144.90 where id = 16001;
commit;
-- silent: a draft
update contratos set valor_mensal = 1 where id = 16002;
-- silent: cancelled, which is another event
update contratos set situacao = 'CA', dt_fim = '2025-12-31' where id = 16001;

-- # 17 contrato.excluido: Superlógica, Contrato excluído
-- given
insert into contratos (id, empresa_id, cliente_id, produto_id, numero, dt_inicio, valor_mensal) values (17001, 1, 2, 3, 'C17001', '2025-04-01', 129.90);
-- silent: cancelled, not deleted
update contratos set situacao = 'CA' where id = 17001;
-- silent: rolled back to a savepoint
begin;
savepoint limpeza;
delete from contratos where id = 17001;
rollback to savepoint limpeza;
commit;
-- when
delete from contratos where id = 17001;

-- # 18 contrato.cancelado: Superlógica, Contrato cancelado
-- given
insert into contratos (id, empresa_id, cliente_id, produto_id, numero, dt_inicio, valor_mensal) values (18001, 1, 2, 3, 'C18001', '2025-04-01', 129.90);
-- silent: it expired
update contratos set situacao = 'VE' where id = 18001;
-- when
update contratos set situacao = 'CA', dt_cancelamento = '2099-01-31', motivo_cancelamento = 'Mudança de cidade' where id = 18001;
-- silent: a better reason
update contratos set motivo_cancelamento = 'Mudou de cidade', situacao = 'CA ' where id = 18001;
-- silent: the other direction
update contratos set situacao = 'AT', dt_cancelamento = null where id = 18001;

-- # 19 cobranca.criada: Superlógica, Cobrança criada
-- when
begin;
insert into cobrancas (id, empresa_id, cliente_id, contrato_id, nosso_numero, documento, valor, dt_emissao, dt_vencimento)
  values (19001, 1, 2, 1, '00001900100000001', 'FAT-19001', 134.90, '2025-09-01', '2025-09-10');
insert into cobrancas_itens values (19001, 1, 3, 'setembro', 1, 129.90);
insert into cobrancas_itens values (19001, 2, 2, null, 1, 5.00);
commit;
-- silent: entered as paid
insert into cobrancas (id, empresa_id, cliente_id, valor, dt_emissao, dt_vencimento, status) values (19002, 1, 2, 10, '2025-09-01', '2025-09-10', 'L');
-- silent: printed
update cobrancas set dt_impressao = '2025-09-02 10:00' where id = 19001;
-- silent: rolled back to a savepoint
begin;
savepoint fatura;
insert into cobrancas (id, empresa_id, cliente_id, valor, dt_emissao, dt_vencimento) values (19003, 1, 2, 10, '2025-09-01', '2025-09-10');
rollback to savepoint fatura;
commit;

-- # 20 cobranca.atualizada: Superlógica, Cobrança atualizada
-- given
insert into cobrancas (id, empresa_id, cliente_id, documento, valor, dt_emissao, dt_vencimento) values (20001, 1, 2, 'FAT-20001', 134.90, '2025-09-01', '2025-09-10');
insert into cobrancas_itens values (20001, 1, 3, 'setembro', 1, 129.90), (20001, 2, 2, null, 1, 5.00);
-- when
begin;
update cobrancas set dt_vencimento = '2025-09-20', desconto = 4.90 where id = 20001;
delete from cobrancas_itens where cobranca_id = 20001;
insert into cobrancas_itens values (20001, 1, 3, 'setembro', 1, 129.90), (20001, 2, 2, null, 1, 5.00);
commit;
-- when: only one of its items
begin;
delete from cobrancas_itens where cobranca_id = 20001;
insert into cobrancas_itens values (20001, 1, 3, 'setembro', 1, 129.90), (20001, 2, 2, 'cortesia', 1, 0.00);
commit;
-- silent: the items are deleted and inserted again as they were
begin;
update cobrancas set valor = valor where id = 20001;
delete from cobrancas_itens where cobranca_id = 20001;
insert into cobrancas_itens values (20001, 2, 2, 'cortesia', 1, 0.00), (20001, 1, 3, 'setembro', 1, 129.90);
commit;
-- silent: printed
update cobrancas set dt_impressao = '2025-09-02 10:00' where id = 20001;
-- silent: paid at another value
update cobrancas set valor = 130, status = 'L' where id = 20001;

-- # 21 cobranca.liquidada: Superlógica, Cobrança liquidada
-- given
insert into cobrancas (id, empresa_id, cliente_id, documento, valor, dt_emissao, dt_vencimento) values (21001, 1, 2, 'FAT-21001', 129.90, '2025-09-01', '2025-09-10'),
  (21002, 1, 2, 'FAT-21002', 129.90, '2025-09-01', '2025-09-10');
-- silent: rolled back to a savepoint
begin;
savepoint baixa;
update cobrancas set status = 'L' where id = 21001;
rollback to savepoint baixa;
update cobrancas set dt_impressao = '2025-09-02 10:00' where id = 21001;
commit;
-- when
update cobrancas set status = 'L', valor_pago = 129.90, dt_liquidacao = '2025-09-09', dt_credito = '2025-09-10' where id = 21001;
-- silent: a touch of a paid charge
update cobrancas set status = 'L', dt_credito = '2025-09-11' where id = 21001;
-- silent: the other direction
update cobrancas set status = 'P', valor_pago = null, dt_liquidacao = null where id = 21001;
-- silent: invalidated
update cobrancas set status = 'I' where id = 21002;
-- when: paid although invalidated
update cobrancas set status = 'L', valor_pago = 129.90, dt_liquidacao = '2025-09-30' where id = 21002;

-- # 22 cobranca.estornada: Superlógica, Cobrança estornada
-- given
insert into cobrancas (id, empresa_id, cliente_id, documento, valor, valor_pago, dt_emissao, dt_vencimento, dt_liquidacao, status)
  values (22001, 1, 2, 'FAT-22001', 129.90, 129.90, '2025-09-01', '2025-09-10', '2025-09-09', 'L');
-- silent: a touch
update cobrancas set valor_pago = 129.9 where id = 22001;
-- when
update cobrancas set status = 'P', valor_pago = null, dt_liquidacao = null, dt_estorno = '2025-09-12 15:00' where id = 22001;
-- silent: the other direction
update cobrancas set status = 'L' where id = 22001;
-- silent: a paid charge that is invalidated
update cobrancas set status = 'I' where id = 22001;

-- # 23 cobranca.invalidada: Superlógica, Cobrança invalidada
-- given
insert into cobrancas (id, empresa_id, cliente_id, documento, valor, dt_emissao, dt_vencimento) values (23001, 1, 2, 'FAT-23001', 129.90, '2025-09-01', '2025-09-10');
insert into cobrancas (id, empresa_id, cliente_id, documento, valor, dt_emissao, dt_vencimento, status) values (23002, 1, 2, 'FAT-23002', 129.90, '2025-09-01', '2025-09-10', 'L');
-- when
update cobrancas set status = 'I', dt_invalidacao = '2025-09-15 11:00' where id = 23001;
-- silent: a touch
update cobrancas set status = 'I', documento = documento where id = 23001;
-- silent: of a paid one
update cobrancas set status = 'I' where id = 23002;
-- silent: the other direction
update cobrancas set status = 'P' where id = 23001;

-- # 24 cobranca.reativada: Superlógica, Cobrança reativada (após invalidada)
-- given
insert into cobrancas (id, empresa_id, cliente_id, documento, valor, dt_emissao, dt_vencimento, status) values (24001, 1, 2, 'FAT-24001', 129.90, '2025-09-01', '2025-09-10', 'I'),
  (24002, 1, 2, 'FAT-24002', 129.90, '2025-09-01', '2025-09-10', 'I');
-- when
update cobrancas set status = 'P', dt_invalidacao = null where id = 24001;
-- silent: paid instead
update cobrancas set status = 'L' where id = 24002;
-- silent: refunded, and so pending again
update cobrancas set status = 'P' where id = 24002;
-- silent: the other direction
update cobrancas set status = 'I' where id = 24001;

-- # 25 mensalidade.reajustada: Superlógica, Mensalidade reajustada
-- given
insert into clientes (id, empresa_id, nome, situacao) values (25001, 1, 'Nair Lopes', 'AT');
insert into contratos (id, empresa_id, cliente_id, produto_id, numero, dt_inicio, valor_mensal) values (25001, 1, 25001, 3, 'C25001', '2024-04-01', 129.90);
insert into mensalidades (id, empresa_id, contrato_id, produto_id, valor, indice, dt_inicio) values (25001, 1, 25001, 3, 129.90, 'IPCA', '2024-04-01');
-- when
update mensalidades set valor = 136.40, dt_ultimo_reajuste = '2025-04-01' where id = 25001;
-- silent: edited by hand
update mensalidades set valor = 130 where id = 25001;
-- silent: only the date
update mensalidades set dt_ultimo_reajuste = '2025-05-01', valor = 130.00 where id = 25001;

-- # 26 despesa.liquidada: Superlógica, Despesa liquidada
-- given
insert into despesas (id, empresa_id, descricao, valor, dt_vencimento) values (26001, 1, 'Energia', 840.15, '2025-10-05'), (26002, 1, 'Água', 120, '2025-10-05');
-- when
update despesas set status = 'L', valor_pago = 840.15, dt_liquidacao = '2025-10-05' where id = 26001;
-- silent: a touch
update despesas set valor_pago = 840.15 where id = 26001;
-- silent: the other direction
update despesas set status = 'P' where id = 26001;
-- silent: cancelled
update despesas set status = 'X' where id = 26002;

-- # 27 despesa.estornada: Superlógica, Despesa estornada
-- given
insert into despesas (id, empresa_id, descricao, valor, dt_vencimento, status) values (27001, 1, 'Limpeza', 300, '2025-10-05', 'L'), (27002, 1, 'Gás', 90, '2025-10-05', 'X');
-- when
update despesas set status = 'P', valor_pago = null, dt_liquidacao = null where id = 27001;
-- silent: the other direction
update despesas set status = 'L' where id = 27001;
-- silent: a cancelled one that is opened again
update despesas set status = 'P' where id = 27002;

-- # 28 despesa.alterada: Superlógica, Despesa alterada
-- given
insert into despesas (id, empresa_id, descricao, valor, dt_vencimento) values (28001, 1, 'Aluguel', 5000, '2025-10-05');
-- when
update despesas set valor = 5250, dt_vencimento = '2025-11-05' where id = 28001;
-- silent: a touch and an equal value
update despesas set valor = 5250.00, descricao = descricao where id = 28001;
-- silent: paid at another value
update despesas set status = 'L', valor = 5200 where id = 28001;

-- # 29 cartao.negado: Superlógica, Cartão de crédito negado
-- given
insert into transacoes_cartao (id, empresa_id, cobranca_id, cliente_id, cartao_mascarado, bandeira, valor, dt_tentativa)
  values (29001, 1, 1, 2, '4111********1234', 'VI', 129.90, '2025-10-01 10:00');
insert into transacoes_cartao (id, empresa_id, cobranca_id, cliente_id, cartao_mascarado, bandeira, valor, status, dt_tentativa)
  values (29002, 1, 1, 2, '4111********1234', 'VI', 129.90, 'A', '2025-10-01 10:00');
-- when
update transacoes_cartao set status = 'N', cod_retorno = '51', msg_retorno = 'Saldo insuficiente', dt_retorno = '2025-10-01 10:00:05' where id = 29001;
-- when: refused at once
insert into transacoes_cartao (id, empresa_id, cobranca_id, cliente_id, tentativa, cartao_mascarado, bandeira, valor, status, cod_retorno, msg_retorno, dt_tentativa)
  values (29003, 1, 1, 2, 2, '5500000000009876', 'MC', 129.90, 'N', '05', 'Não autorizada', '2025-10-03 10:00');
-- silent: a touch of a refused one
update transacoes_cartao set nsu = '123', status = 'N' where id = 29001;
-- silent: sent and approved
insert into transacoes_cartao (id, empresa_id, cliente_id, valor) values (29004, 1, 2, 10);
update transacoes_cartao set status = 'A' where id = 29004;
-- silent: approved, and wrong afterwards
update transacoes_cartao set status = 'N' where id = 29002;

-- # 30 pedido.status: Superlógica, Pedido status
-- given
insert into pedidos (id, empresa_id, numero, cliente_id, status, total) values (30001, 1, 'P30001', 2, '20', 214.90);
-- when
update pedidos set status = '40', rastreio = 'BR123456789' where id = 30001;
-- silent: a touch and the padded code
update pedidos set status = '40 ', observacao = 'frágil' where id = 30001;
-- silent: there and back before the commit is two changes for a rule that does not collapse, none rolled back to a savepoint
begin;
savepoint passo;
update pedidos set status = '50' where id = 30001;
rollback to savepoint passo;
commit;

-- # 31 nota_fiscal.convertida: Superlógica, Nota fiscal convertida
-- given
insert into notas_fiscais (id, empresa_id, cobranca_id, tipo, serie, numero_rps, valor, iss, xml, dt_emissao)
  values (31001, 1, 1, 'R', 'A', 501, 129.90, 6.50, repeat('<rps/>', 2000), '2025-10-01 10:00'), (31002, 1, 1, 'P', '1', null, 10, 0, null, '2025-10-01 10:00');
-- silent: sent to the city hall
update notas_fiscais set status = 'E' where id = 31001;
-- when
update notas_fiscais set status = 'C', numero_nf = 2025000077, cod_verificacao = 'AB12-CD34', dt_conversao = '2025-10-02 03:00' where id = 31001;
-- silent: another number
update notas_fiscais set numero_nf = 2025000078 where id = 31001;
-- silent: a product's note
update notas_fiscais set numero_nf = 9 where id = 31002;
-- silent: the other direction
update notas_fiscais set numero_nf = null where id = 31001;
