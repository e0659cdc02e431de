create schema protocolo; create schema caixa; create schema configuracoes; create schema arrecadacao;
create table configuracoes.db_config (codigo int primary key, nomeinst varchar(80), cgc char(14), munic varchar(40), uf char(2), prefeitura bool default false);
create table protocolo.cgm (
	z01_numcgm int primary key, z01_nome varchar(40), z01_ender varchar(100), z01_numero int, z01_munic varchar(40), z01_uf char(2), z01_cep char(8),
	z01_cgccpf char(14), z01_telef char(12), z01_telcel varchar(20), z01_ident char(20), z01_email varchar(100), z01_cadast date, z01_nasc date, z01_mae varchar(40));
create table caixa.arrecad (
	k00_numcgm int, k00_dtoper date, k00_receit int, k00_hist int, k00_valor double precision, k00_dtvenc date, k00_numpre int, k00_numpar int,
	k00_numtot int, k00_numdig int, k00_tipo int, k00_tipojm int);
create table caixa.recibopaga (
	k00_numcgm int, k00_dtoper date, k00_receit int not null, k00_hist int not null, k00_valor double precision, k00_dtvenc date, k00_numpre int not null,
	k00_numpar int not null, k00_conta int, k00_dtpaga date, k00_numnov int not null);
create unique index recibopaga_unico on caixa.recibopaga (k00_numnov, k00_numpre, k00_numpar, k00_receit, k00_hist);
alter table caixa.recibopaga replica identity using index recibopaga_unico;
create table arrecadacao.emissao (id bigint generated always as identity primary key, instit int not null references configuracoes.db_config, situacao char(1) not null check (situacao in ('A', 'P', 'C')), valor numeric(15, 2), total numeric(15, 2) generated always as (valor * 2) stored);
insert into configuracoes.db_config values (1, 'PREFEITURA', '00000000000191', 'PORTO', 'RS', true);
-- tables: cgm caixa.* emissao
-- traffic
insert into protocolo.cgm (z01_numcgm, z01_nome, z01_ender, z01_uf, z01_cep, z01_cgccpf, z01_telef, z01_email, z01_cadast) values (10, 'MARIA DE SOUZA', 'RUA A', 'RS', '90000000', '00000000191', '5132250000', 'm@example.com', '1999-12-31');
insert into caixa.arrecad values (10, '2026-01-02', 1, 2, 0.1, '2026-02-10', 77, 1, 12, 0, 3, 0);
insert into caixa.recibopaga values (10, '2026-01-02', 1, 2, 100.05, '2026-02-10', 77, 1, null, '2026-02-09', 5);
update caixa.recibopaga set k00_valor = 12345.675 where k00_numnov = 5;
insert into arrecadacao.emissao (instit, situacao, valor) values (1, 'A', 10.50);
update arrecadacao.emissao set situacao = 'P';
update protocolo.cgm set z01_nome = 'MARIA' where z01_numcgm = 10;
delete from caixa.recibopaga where k00_numnov = 5;
delete from protocolo.cgm where z01_numcgm = 10;
