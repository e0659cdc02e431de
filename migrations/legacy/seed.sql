-- A few rows in most tables of schema.sql, with the values that old databases hold: accents, padding, NaN, BC dates.
set client_encoding='UTF8';
insert into empresas(codigo,rede_chave,razao_social,nome_fantasia,cnpj) values ('0001',repeat('a',32),'Academia Corpo São Paulo Ltda','Corpo SP Centro','11222333000181'),('0002',repeat('a',32),'Academia Corpo Ltda','Corpo SP Zona Sul','11222333000262');
insert into clientes(empresa_id,matricula,nome,cpf_cnpj,email,situacao,observacao,foto,tags,dados_extras)
 select 1+(g%2), lpad(g::text,6,'0'), 'João da Conceição '||g, '12345678909', 'joao'||g||'@exemplo.com.br','AT', (select string_agg(md5(g::text||i::text),'') from generate_series(1,400) i), decode(repeat(md5(g::text),200),'hex'), array['vip','manhã'], '{"origem":"site"}' from generate_series(1,20) g;
insert into categorias(empresa_id,categoria_pai_id,nome) values (1,null,'Suplementos'),(1,1,'Whey'),(1,2,'Whey isolado'),(1,1,'Creatina');
insert into produtos(empresa_id,codigo,descricao,preco,custo) values (1,'WHEY900','Whey 900g',199.90,120.5),(1,'AGUA','Água sem gás',5,1),(1,'PLANO-M','Plano mensal',129.9,0);
insert into produtos_categorias values (1,2),(1,1);
insert into contratos(empresa_id,cliente_id,produto_id,dt_inicio,duracao,valor_mensal) values (1,2,3,'2026-11-01','1 year 2 mons',129.90);
insert into mensalidades(empresa_id,contrato_id,produto_id,valor,dt_inicio) values (1,1,3,129.90,'2026-11-01');
insert into cobrancas(empresa_id,cliente_id,contrato_id,valor,dt_emissao,dt_vencimento) values (1,2,1,129.90,'2026-11-01','2026-11-10'),(1,2,1,129.90,'2026-11-01','2026-12-10');
insert into parametros values('DT_FECHAMENTO','01/11/2026');
insert into "TB_FORNECEDOR" values (1,'Fornecedor','NaN','0001-01-01 BC');
insert into estoque values (1,1,'001',10,0);
insert into despesas(empresa_id,descricao,valor,dt_vencimento) values (1,'Aluguel',5000,'2026-11-05');
