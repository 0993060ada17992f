-- Only trusted schemas: the catalog, and that of the extension vector, for its type.
SELECT set_config('search_path', concat_ws(', ', 'pg_catalog', 'pg_temp', (
    SELECT quote_ident(n.nspname)
      FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
     WHERE e.extname = 'vector')), false)
