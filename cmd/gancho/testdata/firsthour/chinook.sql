-- Reduced from lerocha/chinook-database, ChinookDatabase/DataSources/Chinook_PostgreSql.sql of version 1.4 (commit 1b6138b), which
-- quotes its names: columns and their types as there, fewer of them.
create table "Artist" ("ArtistId" int primary key, "Name" varchar(120));
create table "Employee" ("EmployeeId" int primary key, "LastName" varchar(20) not null, "FirstName" varchar(20) not null, "Title" varchar(30), "ReportsTo" int references "Employee", "BirthDate" timestamp);
create table "Customer" (
	"CustomerId" int primary key, "FirstName" varchar(40) not null, "LastName" varchar(20) not null, "Company" varchar(80), "Address" varchar(70),
	"City" varchar(40), "State" varchar(40), "Country" varchar(40), "PostalCode" varchar(10), "Phone" varchar(24), "Fax" varchar(24),
	"Email" varchar(60) not null, "SupportRepId" int references "Employee");
create table "Invoice" (
	"InvoiceId" int primary key, "CustomerId" int not null references "Customer", "InvoiceDate" timestamp not null, "BillingAddress" varchar(70),
	"BillingCity" varchar(40), "BillingState" varchar(40), "BillingCountry" varchar(40), "BillingPostalCode" varchar(10), "Total" numeric(10, 2) not null);
create table "PlaylistTrack" ("PlaylistId" int not null, "TrackId" int not null, primary key ("PlaylistId", "TrackId"));
insert into "Employee" values (3, 'Peacock', 'Jane', null, null, '1973-08-29');
-- tables: "Customer" Invoice Playlist*
-- traffic
insert into "Customer" values (1, 'Luís', 'Gonçalves', null, 'Av. Brigadeiro Faria Lima, 2170', 'São José dos Campos', 'SP', 'Brazil', '12227-000', '+55 (12) 3923-5555', null, 'luisg@example.com', 3);
insert into "Invoice" values (98, 1, '2022-03-11 00:00:00', 'Rua "X"', 'São Paulo', 'SP', 'Brazil', null, 3.98);
update "Invoice" set "Total" = 13.860 where "InvoiceId" = 98;
insert into "PlaylistTrack" values (1, 3402);
delete from "PlaylistTrack" where "TrackId" = 3402;
delete from "Invoice" where "InvoiceId" = 98;
