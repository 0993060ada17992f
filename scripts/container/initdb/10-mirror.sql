-- Run once by the image of Postgres, as its superuser, when the database is made: what scripts/setup-postgres.sh makes.
\set ON_ERROR_STOP on
\getenv password MIRROR_PASSWORD
CREATE ROLE mirror LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
-- Of MemuStores that several agents share: programs log in as this role, and the mirror's may not make it.
CREATE ROLE argent_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
CREATE DATABASE mirror OWNER mirror TEMPLATE template0 ENCODING 'UTF8';
\connect mirror
CREATE EXTENSION vector;
