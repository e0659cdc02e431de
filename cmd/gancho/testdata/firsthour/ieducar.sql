-- Reduced from portabilis/i-educar, database/migrations (the ones that create these tables): columns and their types as there, fewer of them;
-- foreign keys as their names say.
create schema pmieducar; create schema cadastro;
create table pmieducar.instituicao (cod_instituicao serial primary key, ref_usuario_cad int not null, nm_instituicao varchar(255) not null, ativo smallint not null default 1);
create table pmieducar.escola (cod_escola serial primary key, ref_usuario_cad int not null, ref_cod_instituicao int not null references pmieducar.instituicao, sigla varchar(20) not null, data_cadastro timestamp not null, ativo smallint not null default 1);
create table cadastro.pessoa (idpes numeric(8) primary key, nome varchar(150) not null, data_cad timestamp not null, url varchar(60), tipo char(1) not null, email varchar(100), situacao char(1) not null, origem_gravacao char(1) not null, operacao char(1) not null check (operacao in ('I', 'A', 'E')));
create table cadastro.fisica (
	idpes numeric(8) primary key, data_nasc date, sexo char(1) check (sexo in ('M', 'F')), idpes_mae numeric(8), nacionalidade numeric(1) check (nacionalidade between 1 and 3),
	origem_gravacao char(1) not null check (origem_gravacao in ('M', 'U', 'C', 'O')), data_cad timestamp not null, operacao char(1) not null check (operacao in ('I', 'A', 'E')), cpf numeric(11),
	ref_cod_religiao int, nis_pis_pasep numeric(11), renda_mensal numeric(10, 2), falecido boolean, horario_inicial_trabalho time, nome_social varchar(150), pais_residencia int not null default 76);
create table pmieducar.aluno (cod_aluno serial primary key, ref_idpes int, data_cadastro timestamp not null, ativo smallint not null default 1, caminho_foto varchar(255), analfabeto smallint default 0);
create table pmieducar.matricula (
	cod_matricula serial primary key, ref_ref_cod_escola int references pmieducar.escola, ref_ref_cod_serie int, ref_usuario_cad int not null,
	ref_cod_aluno int not null references pmieducar.aluno, aprovado smallint not null default 0, data_cadastro timestamp not null, data_exclusao timestamp,
	ativo smallint not null default 1, ano int not null, ultima_matricula smallint not null default 0, formando smallint not null default 0,
	matricula_transferencia boolean not null default false, observacao varchar(300));
create table pmieducar.matricula_turma (
	ref_cod_matricula int not null references pmieducar.matricula, ref_cod_turma int not null, sequencial int not null, ref_usuario_cad int not null, data_cadastro timestamp not null, data_enturmacao date not null,
	ativo smallint not null default 1, transferido boolean, id serial primary key, tipo_atendimento int[], updated_at timestamp(0) default now());
create unique index matricula_turma_uindex_matricula_turma_sequencial on pmieducar.matricula_turma (ref_cod_matricula, ref_cod_turma, sequencial);
insert into pmieducar.instituicao values (1, 1, 'Município');
insert into pmieducar.escola values (1, 1, 1, 'EMEF', '2020-01-02 03:04:05');
insert into cadastro.pessoa values (1, 'José da Silva', now(), null, 'F', null, 'A', 'M', 'I');
insert into pmieducar.aluno values (1, 1, '2020-01-02 03:04:05.6');
-- tables: pmieducar.matricula* fisica
-- traffic
insert into pmieducar.matricula (ref_ref_cod_escola, ref_usuario_cad, ref_cod_aluno, data_cadastro, ano) values (1, 1, 1, '2026-02-03 08:09:10.011', 2026);
insert into pmieducar.matricula_turma values (1, 7, 1, 1, '2026-02-03 08:09:10', '2026-02-04', 1, null, 1, '{1,null,3}');
insert into cadastro.fisica (idpes, data_nasc, sexo, origem_gravacao, data_cad, operacao, cpf, nome_social, horario_inicial_trabalho) values (1, '2015-05-06', 'M', 'M', '2026-02-03', 'I', 191, 'Zé', '07:30');
update pmieducar.matricula set aprovado = 3, data_exclusao = '2026-12-18 23:59:59.999999' where cod_matricula = 1;
delete from pmieducar.matricula_turma where sequencial = 1;
delete from pmieducar.matricula where cod_matricula = 1;
