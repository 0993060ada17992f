-- $1 schema, $2 table, $3 column, $4 dimension
INSERT INTO mirror.vector_dimensions (schema_name, table_name, column_name, dimension)
VALUES ($1::text, $2::text, $3::text, $4::int) ON CONFLICT DO NOTHING
