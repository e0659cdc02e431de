-- Reduced from e-cidade/e-cidade: columns and their types as its classes of entities have them (db_cgm_classe.php and the like; db_config,
-- cgm, arrecad, recibopaga) and the model EmissaoPIX, fewer of them. The unique index of recibopaga is ours: a replica identity
-- that is no primary key.
create schema protocolo; create schema caixa; create schema configuracoes; create schema tributario;
create table configuracoes.db_config (codigo int primary key, nomeinst varchar(80), cgc char(14), munic varchar(40), uf char(2), prefeitura bool default false);
create table protocolo.cgm (
	z01_numcgm int primary key, z01_nome varchar(40), z01_ender varchar(100), z01_numero int, z01_munic varchar(40), z01_uf varchar(2), z01_cep varchar(8),
	z01_cgccpf varchar(14), z01_telef varchar(12), z01_telcel varchar(12), z01_ident varchar(20), z01_email varchar(100), z01_cadast date, z01_nasc date, z01_mae varchar(40));
create table caixa.arrecad (
	k00_numpre int, k00_numpar int, k00_numcgm int, k00_dtoper date, k00_receit int, k00_hist int, k00_valor double precision, k00_dtvenc date,
	k00_numtot int, k00_numdig int, k00_tipo int, k00_tipojm int);
create table caixa.recibopaga (
	k00_numcgm int, k00_dtoper date, k00_receit int not null, k00_hist int not null, k00_valor double precision, k00_dtvenc date, k00_numpre int not null,
	k00_numpar int not null, k00_numtot int, k00_numdig int, k00_conta int, k00_dtpaga date, k00_numnov int not null);
create unique index recibopaga_unico on caixa.recibopaga (k00_numnov, k00_numpre, k00_numpar, k00_receit, k00_hist);
alter table caixa.recibopaga replica identity using index recibopaga_unico;
create table tributario.emissao_pix (
	tr10_sequencial serial primary key, tr10_codigo_emissao text, tr10_num_jobs int, tr10_concluidos_jobs int, tr10_failed_jobs int, tr10_codban text,
	tr10_tipo int, tr10_data_vencimento date, tr10_cotaunica boolean, tr10_status boolean);
insert into configuracoes.db_config values (1, 'PREFEITURA', '00000000000191', 'PORTO', 'RS', true);
-- tables: cgm caixa.* emissao_pix
-- traffic
insert into protocolo.cgm (z01_numcgm, z01_nome, z01_ender, z01_uf, z01_cep, z01_cgccpf, z01_telef, z01_email, z01_cadast) values (10, 'MARIA DE SOUZA', 'RUA A', 'RS', '90000000', '00000000191', '5132250000', 'm@example.com', '1999-12-31');
insert into caixa.arrecad values (77, 1, 10, '2026-01-02', 1, 2, 0.1, '2026-02-10', 12, 0, 3, 0);
insert into caixa.recibopaga values (10, '2026-01-02', 1, 2, 100.05, '2026-02-10', 77, 1, 12, 0, null, '2026-02-09', 5);
update caixa.recibopaga set k00_valor = 12345.675 where k00_numnov = 5;
insert into tributario.emissao_pix (tr10_codigo_emissao, tr10_num_jobs, tr10_concluidos_jobs, tr10_data_vencimento, tr10_status) values ('E-1', 3, 0, '2026-02-28', false);
update tributario.emissao_pix set tr10_concluidos_jobs = 3, tr10_status = true;
update protocolo.cgm set z01_nome = 'MARIA' where z01_numcgm = 10;
delete from caixa.recibopaga where k00_numnov = 5;
delete from protocolo.cgm where z01_numcgm = 10;
