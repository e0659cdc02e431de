-- What the DBA does for Gancho on the legacy tables: nothing else in this directory is Gancho's.
--
-- A rule that compares the old row with the new one (old.x, changed(), became(), watch, previous), or that shows a
-- deleted row's columns, needs the old row in the WAL. PostgreSQL writes it only for REPLICA IDENTITY FULL.
-- Without it an UPDATE's old row is absent and a DELETE's old row has the primary key alone.
--
-- Each statement takes an ACCESS EXCLUSIVE lock for an instant, rewrites nothing, and is undone by
-- ALTER TABLE ... REPLICA IDENTITY DEFAULT. UPDATE and DELETE of these tables then write the old row too: about 40 %
-- more WAL per touched row (docs/operations.md). Tables that rules only read inserts of are not here:
-- acessos, vendas_avulsas, estoque_movimentos.
ALTER TABLE clientes          REPLICA IDENTITY FULL;
ALTER TABLE categorias        REPLICA IDENTITY FULL;
ALTER TABLE produtos          REPLICA IDENTITY FULL;
ALTER TABLE contratos         REPLICA IDENTITY FULL;
ALTER TABLE mensalidades      REPLICA IDENTITY FULL;
ALTER TABLE cobrancas         REPLICA IDENTITY FULL;
ALTER TABLE cobrancas_itens   REPLICA IDENTITY FULL;
ALTER TABLE pagamentos        REPLICA IDENTITY FULL;
ALTER TABLE pedidos           REPLICA IDENTITY FULL;
ALTER TABLE itens_pedido      REPLICA IDENTITY FULL;
ALTER TABLE estoque           REPLICA IDENTITY FULL;
ALTER TABLE despesas          REPLICA IDENTITY FULL;
ALTER TABLE transacoes_cartao REPLICA IDENTITY FULL;
ALTER TABLE notas_fiscais     REPLICA IDENTITY FULL;
