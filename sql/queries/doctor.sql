-- schema: whether the user may work in this database, and whether it has what a profile needs.
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
       has_database_privilege(current_database(), 'CREATE'),
       coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s), true),
       EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'vector'),
       EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'vector'),
       EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'argent_app'),
       EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'argent_app' AND (rolsuper OR rolbypassrls)),
       (SELECT rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user)
