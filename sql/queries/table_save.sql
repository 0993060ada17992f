-- $1 source, $2 source table, $3 target schema, $4 target table, $5 columns, $6 key, $7 curated, $8 agent,
-- $9 columns that a rule leaves out, $10 the virtual table of which it has the data,
-- $11 those columns that are left out for another one's rule, with that
INSERT INTO mirror.tables (source_id, source_table, target_schema, target_table, columns, key, curated, agent_id, omitted,
                           virtual_table, inherited)
VALUES ($1::bigint, $2::text, $3::text, $4::text, $5::jsonb, $6::jsonb, $7::boolean, $8::text, $9::jsonb, $10::text, $11::jsonb)
