-- Reduced from ledgersmb/LedgerSMB, sql/Pg-database.sql (1.13): columns, types and keys as there, fewer tables, no foreign keys to those.
create table entity (
	id serial unique, name text check (name ~ '[[:alnum:]_]'), entity_class int not null, created date not null default current_date, control_code text unique,
	country_id int not null, primary key (control_code, entity_class));
create table account (id serial not null unique, accno text primary key, description text, category char(1) not null);
create table entity_credit_account (
	id serial not null unique, entity_id int not null references entity (id) on delete cascade, entity_class int not null check (entity_class in (1, 2)), pay_to_name text, discount numeric,
	description text, taxincluded bool default 'f', creditlimit numeric default 0, terms int2 default 0, meta_number varchar(32), curr char(3), startdate date default current_date, enddate date,
	threshold numeric default 0, ar_ap_account_id int references account (id), primary key (entity_id, meta_number, entity_class));
create table ar (
	id int primary key, invnumber text, transdate date default current_date, entity_id int references entity (id), taxincluded bool, amount numeric, netamount numeric, paid numeric, datepaid date,
	duedate date, invoice bool default 'f', shippingpoint text, terms int2 default 0, notes text,
	curr char(3) check ((amount is null and curr is null) or (amount is not null and curr is not null)), ordnumber text, person_id int, till varchar(20), quonumber text, intnotes text,
	shipvia text, language_code varchar(6), ponumber text, on_hold bool default false, reverse bool default false, approved bool default true,
	entity_credit_account int not null references entity_credit_account (id), force_closed bool, description text, is_return bool default false, crdate date, setting_sequence text,
	check (invnumber is not null or not approved));
create table acc_trans (
	trans_id int not null, chart_id int not null references account (id), amount numeric not null, transdate date default current_date, source text, cleared bool default 'f',
	fx_transaction bool default 'f', memo text, invoice_id int, approved bool default true, cleared_on date, reconciled_on date, voucher_id int, entry_id serial primary key);
create table defaults (setting_key text primary key, value text);
create table user_preference (
	id int primary key, language varchar(6), stylesheet text default 'ledgersmb.css' not null, printer text, dateformat text default 'yyyy-mm-dd' not null,
	numberformat text default '1000.00' not null);
insert into entity (name, entity_class, control_code, country_id) values ('Cliente & Cia', 2, 'C-1', 1);
insert into entity_credit_account (entity_id, entity_class, meta_number, curr) values (1, 2, 'C-0001', 'BRL');
insert into account (accno, description, category) values ('1200', 'Accounts Receivable', 'A');
-- tables: ar acc_trans entity_credit_account user_preference
-- traffic
insert into ar (id, invnumber, amount, netamount, curr, entity_credit_account, notes) values (1, 'R-1', 1234567890123456789.010, 1e3, 'BRL', 1, E'a\n"b"');
insert into acc_trans (trans_id, chart_id, amount, memo) values (1, 1, -0.0000001, '');
update ar set paid = amount, datepaid = '2026-02-28', approved = null where id = 1;
update entity_credit_account set creditlimit = 'NaN' where id = 1;
insert into user_preference (id, language) values (1, 'pt_BR');
delete from acc_trans where trans_id = 1;
delete from ar where id = 1;
