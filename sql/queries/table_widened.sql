-- $1 schema, $2 table, $3 columns that are jsonb now, for every source that holds the table.
UPDATE mirror.tables
   SET columns = (SELECT jsonb_agg(CASE WHEN held.value ->> 'name' = ANY ($3::text[])
                                        THEN held.value || jsonb_build_object('type', 'jsonb', 'widened', jsonb_build_object(
                                             'since', extract(epoch FROM now()), 'was', held.value ->> 'type'))
                                        ELSE held.value END
                                   ORDER BY held.ordinality)
                    FROM jsonb_array_elements(columns) WITH ORDINALITY AS held)
 WHERE target_schema = $1::text AND target_table = $2::text
