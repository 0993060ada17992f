-- What rules in mirror.json have left out of a table, and which tables have the data of a virtual table of the source:
-- whoever compares the two stores has to know it.
ALTER TABLE mirror.tables
    ADD COLUMN omitted jsonb NOT NULL DEFAULT '[]',  -- names of columns of the source
    ADD COLUMN virtual_table text;                   -- its name; NULL: the source has an ordinary table

-- Metadata of a vec0 table at a place of a chunk. Its numbers begin with the lowest byte.
CREATE FUNCTION mirror.vec0_integer(p_chunk bytea, p_place int) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT bit_or(get_byte(p_chunk, p_place * 8 + at)::bigint << at * 8) FROM generate_series(0, 7) AS at
$$;

CREATE FUNCTION mirror.vec0_float(p_chunk bytea, p_place int) RETURNS double precision LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE
               WHEN exponent = 2047 AND fraction <> 0 THEN 'NaN'
               WHEN exponent = 2047 THEN sign * 'Infinity'::float8
               WHEN exponent = 0 THEN sign * (fraction::float8 * 2::float8 ^ -537) * 2::float8 ^ -537
               ELSE sign * (1 + fraction::float8 / 2::float8 ^ 52) * 2::float8 ^ (exponent - 1023)
           END
      FROM (SELECT CASE WHEN bits < 0 THEN -1::float8 ELSE 1::float8 END AS sign,
                   (bits >> 52 & 2047)::int AS exponent,
                   bits & ((1::bigint << 52) - 1) AS fraction
              FROM mirror.vec0_integer(p_chunk, p_place) AS bits) AS parts
$$;

-- A text of more than 12 bytes is in a table of its own: then it is NULL here.
CREATE FUNCTION mirror.vec0_text(p_chunk bytea, p_place int) RETURNS text LANGUAGE sql STABLE STRICT AS $$
    SELECT CASE WHEN length <= 12 THEN convert_from(substring(p_chunk FROM p_place * 16 + 5 FOR length), 'UTF8') END
      FROM (SELECT bit_or(get_byte(p_chunk, p_place * 16 + at) << at * 8) AS length FROM generate_series(0, 3) AS at) AS head
$$;
