-- Reduced from devrimgunduz/pagila, pagila-schema.sql (commit fef9675): columns, types and the trigger of film as there, fewer of them.
create type mpaa_rating as enum ('G', 'PG', 'PG-13', 'R', 'NC-17');
create domain year as integer check (value between 1901 and 2155);
create table store (store_id serial primary key, manager_staff_id int not null, address_id int not null, last_update timestamptz not null default now());
create table language (language_id serial primary key, name char(20) not null, last_update timestamptz not null default now());
create table customer (
	customer_id serial primary key, store_id int not null references store, first_name text not null, last_name text not null, email text,
	address_id int not null, activebool boolean not null default true, create_date date not null default current_date,
	last_update timestamptz default now(), active int);
create table film (
	film_id serial primary key, title text not null, description text, release_year year, language_id int not null references language, original_language_id int references language,
	rental_duration smallint not null default 3, rental_rate numeric(4, 2) not null default 4.99, length smallint,
	replacement_cost numeric(5, 2) not null default 19.99, rating mpaa_rating default 'G', last_update timestamptz not null default now(),
	special_features text[], fulltext tsvector not null);
create trigger film_fulltext_trigger before insert or update on film for each row execute function tsvector_update_trigger('fulltext', 'pg_catalog.english', 'title', 'description');
create table rental (
	rental_id serial primary key, rental_date timestamptz not null, inventory_id int not null, customer_id int not null references customer,
	return_date timestamptz, staff_id int not null, last_update timestamptz not null default now());
create table payment (
	payment_id serial, customer_id int not null, staff_id int not null, rental_id int not null, amount numeric(5, 2) not null,
	payment_date timestamptz not null, primary key (payment_date, payment_id)) partition by range (payment_date);
create table payment_p2022_01 partition of payment for values from ('2022-01-01') to ('2022-02-01');
create table payment_p2022_02 partition of payment for values from ('2022-02-01') to ('2022-03-01');
create view customer_list as select customer_id as id, first_name || ' ' || last_name as name from customer;
insert into store values (1, 1, 1), (2, 2, 2);
insert into language (name) values ('English'), ('Italian');
-- tables: customer film payment
-- traffic
insert into customer (store_id, first_name, last_name, email, address_id, active) values (1, 'Ana', 'Lúcia "Lu"', 'ana@example.com', 5, 1);
insert into film (title, language_id, release_year, rating, special_features, description) values ('Café', 1, 2006, 'PG-13', '{Trailers,"Deleted Scenes"}', null);
update customer set active = 0, activebool = false where customer_id = 1;
insert into payment (customer_id, staff_id, rental_id, amount, payment_date) values (1, 1, 7, 2.90, '2022-01-30 10:00:00.123456-03');
update payment set amount = 3 where rental_id = 7;
delete from payment where rental_id = 7;
delete from film where film_id = 1;
