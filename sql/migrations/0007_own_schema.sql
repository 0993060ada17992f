-- A refusal that a schema of its own for the source mends: a name in this one is another's.
ALTER TABLE mirror.refusals ADD COLUMN own_schema boolean NOT NULL DEFAULT false;

-- The advisory lock under which a table is made: of two sources that begin at once with tables of one name, the
-- second is told so, in place of an error about a row of the catalog.
CREATE FUNCTION mirror.name_key(p_schema text, p_table text) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT hashtextextended(quote_ident(p_schema) || '.' || quote_ident(p_table), 1835627122)
$$;
