create table entity (id serial primary key, name text not null check (name ~ '[[:alnum:]_]'), entity_class int not null default 1, created date not null default current_date, control_code text not null unique);
create table entity_credit_account (id serial primary key, entity_id int not null references entity, meta_number varchar(32), creditlimit numeric default 0, curr char(3), startdate date default current_date, enddate date);
create table chart (id serial primary key, accno text not null unique, description text, charttype char(1) default 'A', category char(1), link text);
create table ar (
	id int primary key, invnumber text, transdate date default current_date, taxincluded bool, amount numeric, netamount numeric, paid numeric, datepaid date,
	duedate date, invoice bool default false, terms smallint default 0, notes text, curr char(3) check (amount is null or curr is not null), ordnumber text,
	person_id int, till varchar(20), intnotes text, on_hold bool default false, reverse bool default false, approved bool default true,
	entity_credit_account int not null references entity_credit_account, force_closed bool, description text);
create table acc_trans (
	entry_id serial primary key, trans_id int not null, chart_id int not null references chart, amount numeric, transdate date default current_date, source text,
	cleared bool not null default false, fx_transaction bool not null default false, memo text, approved bool default true, cleared_on date, reconciled_on date);
create table defaults (setting_key text primary key, value text);
create table user_preference (id int not null, language varchar(6), stylesheet text default 'ledgersmb.css' not null);
insert into entity (name, control_code) values ('Cliente & Cia', 'C-1');
insert into entity_credit_account (entity_id, meta_number, curr) values (1, 'C-0001', 'BRL');
insert into chart (accno, description, category, link) values ('1200', 'Accounts Receivable', 'A', 'AR');
-- tables: ar acc_trans entity_credit_account user_preference
-- traffic
insert into ar (id, invnumber, amount, netamount, curr, entity_credit_account, notes) values (1, 'R-1', 1234567890123456789.010, 1e3, 'BRL', 1, E'a\n"b"');
insert into acc_trans (trans_id, chart_id, amount, memo) values (1, 1, -0.0000001, '');
update ar set paid = amount, datepaid = '2026-02-28', approved = null where id = 1;
update entity_credit_account set creditlimit = 'NaN' where id = 1;
insert into user_preference (id, language) values (1, 'pt_BR');
delete from acc_trans where trans_id = 1;
delete from ar where id = 1;
