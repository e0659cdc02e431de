create schema pmieducar; create schema cadastro;
create table pmieducar.instituicao (cod_instituicao serial primary key, nm_instituicao varchar(255) not null, ativo smallint not null default 1);
create table pmieducar.escola (cod_escola serial primary key, ref_cod_instituicao int not null references pmieducar.instituicao, sigla varchar(20) not null, data_cadastro timestamp not null, ativo smallint not null default 1);
create table cadastro.pessoa (idpes serial primary key, nome varchar(150) not null, data_cad timestamp, url varchar(60), tipo char(1) not null check (tipo in ('F', 'J')), email varchar(100));
create table cadastro.fisica (
	idpes numeric primary key, data_nasc date, sexo char(1) check (sexo in ('M', 'F')), idpes_mae numeric, nacionalidade numeric(1), cpf numeric(11),
	ref_cod_religiao int, nis_pis_pasep numeric(11), nome_social varchar(150));
create table pmieducar.aluno (cod_aluno serial primary key, ref_idpes int references cadastro.pessoa, data_cadastro timestamp not null, ativo smallint not null default 1, caminho_foto varchar(255), analfabeto smallint default 0);
create table pmieducar.matricula (
	cod_matricula serial primary key, ref_ref_cod_escola int references pmieducar.escola, ref_ref_cod_serie int, ref_usuario_cad int not null,
	ref_cod_aluno int not null references pmieducar.aluno, aprovado smallint not null default 0, data_cadastro timestamp not null, data_exclusao timestamp,
	ativo smallint not null default 1, ano int not null, ultima_matricula smallint not null default 0, formando smallint not null default 0,
	matricula_transferencia boolean not null default false, observacao varchar(300));
create table pmieducar.matricula_turma (
	ref_cod_matricula int not null references pmieducar.matricula, ref_cod_turma int not null, sequencial int not null, data_cadastro timestamp not null, data_enturmacao date not null,
	ativo smallint not null default 1, transferido boolean, tipo_atendimento int[], primary key (ref_cod_matricula, ref_cod_turma, sequencial));
insert into pmieducar.instituicao values (1, 'Município');
insert into pmieducar.escola values (1, 1, 'EMEF', '2020-01-02 03:04:05');
insert into cadastro.pessoa values (1, 'José da Silva', now(), null, 'F');
insert into pmieducar.aluno values (1, 1, '2020-01-02 03:04:05.6');
-- tables: pmieducar.matricula* fisica
-- traffic
insert into pmieducar.matricula (ref_ref_cod_escola, ref_usuario_cad, ref_cod_aluno, data_cadastro, ano) values (1, 1, 1, '2026-02-03 08:09:10.011', 2026);
insert into pmieducar.matricula_turma values (1, 7, 1, '2026-02-03 08:09:10', '2026-02-04', 1, null, '{1,null,3}');
insert into cadastro.fisica (idpes, data_nasc, sexo, cpf, nome_social) values (1, '2015-05-06', 'M', 191, 'Zé');
update pmieducar.matricula set aprovado = 3, data_exclusao = '2026-12-18 23:59:59.999999' where cod_matricula = 1;
delete from pmieducar.matricula_turma where sequencial = 1;
delete from pmieducar.matricula where cod_matricula = 1;
