-- # 32 pedido.checkout_iniciado: iSET, Pedido/Checkout iniciado
-- when
insert into pedidos (id, empresa_id, numero, carrinho_id, total, dt_checkout)
  values (32001, 1, 'P32001', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 199.90, '2025-11-01 20:15');
-- silent: typed in at the panel, past the checkout
insert into pedidos (id, empresa_id, numero, origem, status, total) values (32002, 1, 'P32002', 'P', '10', 10);
-- silent: a touch
update pedidos set observacao = 'ligar' where id = 32001;
-- silent: rolled back to a savepoint
begin;
savepoint checkout;
insert into pedidos (id, empresa_id) values (32003, 1);
rollback to savepoint checkout;
commit;

-- # 33 pedido.criado pedido.alterado: iSET, Criação/Alteração de pedido
-- given
insert into pedidos (id, empresa_id, numero, cliente_id, status, subtotal, frete, total) values (33002, 1, 'P33002', 2, '00', 199.90, 15, 214.90);
-- when
begin;
insert into pedidos (id, empresa_id, numero, cliente_id, status) values (33001, 1, 'P33001', 2, '10');
insert into itens_pedido values (33001, 1, 1, 1, 199.90);
insert into itens_pedido values (33001, 2, 2, 2, 5);
update pedidos set subtotal = 209.90, frete = 15, total = 224.90 where id = 33001;
commit;
-- when: the checkout is completed
begin;
insert into itens_pedido values (33002, 1, 1, 1, 199.90);
update pedidos set status = '10' where id = 33002;
commit;
-- when pedido.alterado: an item is taken out
begin;
delete from itens_pedido where pedido_id = 33001;
insert into itens_pedido values (33001, 1, 1, 1, 199.90);
update pedidos set subtotal = 199.90, total = 214.90 where id = 33001;
commit;
-- when pedido.alterado: only the items
update itens_pedido set quantidade = 2 where pedido_id = 33001 and seq = 1;
-- silent: the items are deleted and inserted again as they were
begin;
delete from itens_pedido where pedido_id = 33001;
insert into itens_pedido values (33001, 1, 1, 2, 199.90);
update pedidos set observacao = 'salvo de novo' where id = 33001;
commit;
-- silent: still in the checkout
insert into pedidos (id, empresa_id, numero, total) values (33003, 1, 'P33003', 1);
-- silent: items of one that is still in the checkout
begin;
insert into itens_pedido values (33003, 1, 1, 1, 199.90);
update pedidos set total = 199.90 where id = 33003;
commit;

-- # 34 pedido.removido: iSET, Pedido removido
-- given
insert into pedidos (id, empresa_id, numero, cliente_id, status, total) values (34001, 1, 'P34001', 2, '10', 50), (34002, 1, 'P34002', 2, '10', 60);
insert into itens_pedido values (34001, 1, 1, 1, 50);
-- silent: cancelled, not removed
update pedidos set status = '90', dt_cancelamento = '2025-11-02 10:00' where id = 34001;
-- silent: rolled back to a savepoint
begin;
savepoint limpeza;
delete from pedidos where id = 34001;
rollback to savepoint limpeza;
commit;
-- when
delete from pedidos where id = 34001;
-- when: deleted logically
update pedidos set excluido_em = '2025-11-03 10:00' where id = 34002;
-- silent: deleted logically once more, and brought back
update pedidos set excluido_em = '2025-11-04 10:00' where id = 34002;
update pedidos set excluido_em = null where id = 34002;

-- # 35 produto.criado produto.alterado: iSET, Criação/Alteração de produto
-- when
insert into produtos (id, empresa_id, codigo, descricao, descricao_html, preco, ncm, peso_kg)
  values (35001, 1, 'BARRA', 'Barra de proteína', '<p>Sabor <b>coco</b></p>', 9.90, '18063210', 0.045);
-- when produto.alterado: another price
update produtos set preco = 8.50, preco_promocional = 7.99 where id = 35001;
-- silent: a service
insert into produtos (id, empresa_id, codigo, tipo, descricao, preco) values (35002, 1, 'PERSONAL', 'S', 'Personal', 100);
-- silent: another price of the service
update produtos set preco = 110 where id = 35002;
-- silent: the cost
update produtos set custo = 4 where id = 35001;
-- silent: the stock
insert into estoque values (1, 35001, '001', 10, 0);

-- # 36 produto.removido: iSET, Remoção de produto
-- given
insert into produtos (id, empresa_id, codigo, descricao, preco) values (36001, 1, 'CORDA', 'Corda', 30), (36002, 1, 'LUVA', 'Luva', 45);
-- silent: switched off
update produtos set situacao = 'I' where id = 36001;
-- when
update produtos set situacao = 'E' where id = 36001;
-- when: the row itself
delete from produtos where id = 36002;
-- silent: brought back
update produtos set situacao = 'A' where id = 36001;
-- silent: rolled back to a savepoint
begin;
savepoint limpeza;
delete from produtos where id = 36001;
rollback to savepoint limpeza;
commit;

-- # 37 produto.estoque_alterado produto.saldo_alterado: iSET, Alteração de estoque
-- given
insert into produtos (id, empresa_id, codigo, descricao, preco) values (37001, 1, 'GARRAFA', 'Garrafa', 25);
insert into estoque values (1, 37001, '001', 10, 0);
-- when
insert into estoque_movimentos values (1, 37001, '001', 'S', 'P', 'P37001', 2, 8, '2025-11-05 10:00', 'loja');
-- when produto.saldo_alterado: the balance
update estoque set quantidade = 8 where produto_id = 37001;
-- silent: a reservation
update estoque set reservado = 3 where produto_id = 37001;
-- silent: the same quantity
update estoque set quantidade = 8.000 where produto_id = 37001;
-- silent: rolled back to a savepoint
begin;
savepoint inventario;
insert into estoque_movimentos values (1, 37001, '001', 'E', 'I', null, 100, 108, '2025-11-05 11:00', 'rui');
update estoque set quantidade = 108 where produto_id = 37001;
rollback to savepoint inventario;
commit;

-- # 38 categoria.criada categoria.alterada: iSET, Criação/Alteração de categoria
-- given
insert into categorias (id, empresa_id, nome, caminho) values (38001, 1, 'Roupas', 'Roupas'), (38002, 1, 'Acessórios', 'Acessórios');
-- when
insert into categorias (id, empresa_id, categoria_pai_id, nome, caminho, ordem) values (38003, 1, 38001, 'Camisetas', 'Roupas/Camisetas', 1);
-- when categoria.alterada: moved below another
update categorias set categoria_pai_id = 38002, caminho = 'Acessórios/Camisetas' where id = 38003;
-- when categoria.alterada: renamed, and the paths of its descendants with it
begin;
update categorias set nome = 'Complementos', caminho = 'Complementos' where id = 38002;
update categorias set caminho = 'Complementos/Camisetas' where id = 38003;
commit;
-- silent: only the path and the order
update categorias set caminho = 'x', ordem = 9 where id = 38003;

-- # 39 categoria.removida: iSET, Categoria removida
-- given
insert into categorias (id, empresa_id, nome) values (39001, 1, 'Bebidas'), (39005, 1, 'Lanches');
insert into categorias (id, empresa_id, categoria_pai_id, nome) values (39002, 1, 39001, 'Sucos'), (39003, 1, 39002, 'Uva'), (39004, 1, 39001, 'Chás'), (39006, 1, 39005, 'Frios'), (39007, 1, 39005, 'Quentes');
-- silent: renamed
update categorias set nome = 'Sucos naturais' where id = 39002;
-- silent: rolled back to a savepoint
begin;
savepoint limpeza;
delete from categorias where id = 39001;
rollback to savepoint limpeza;
commit;
-- when
delete from categorias where id = 39001;
-- when: the children first, as applications do
begin;
delete from categorias where id = 39006;
delete from categorias where id = 39007;
delete from categorias where id = 39005;
commit;
-- given
insert into categorias (id, empresa_id, nome) values (39008, 1, 'Sazonal');
insert into categorias (id, empresa_id, categoria_pai_id, nome) values (39009, 1, 39008, 'Natal');
-- when: only the child
delete from categorias where id = 39009;
-- when: switched off
update categorias set ativo = 'N' where id = 39008;
-- silent: switched on
update categorias set ativo = 'S' where id = 39008;

-- # 40 compra.iniciada: iSET, Compra iniciada
-- given
insert into pedidos (id, empresa_id, numero, total) values (40001, 1, 'P40001', 99), (40002, 1, 'P40002', 98);
-- when
update pedidos set cliente_id = 2 where id = 40001;
-- when: the client is known from the start
insert into pedidos (id, empresa_id, numero, cliente_id, status, total) values (40003, 1, 'P40003', 4, '10', 97);
-- silent: a checkout of nobody
insert into pedidos (id, empresa_id, numero, total) values (40004, 1, 'P40004', 96);
-- silent: another client
update pedidos set cliente_id = 4 where id = 40001;
-- silent: found out after the checkout
update pedidos set status = '10' where id = 40002;
update pedidos set cliente_id = 2 where id = 40002;
