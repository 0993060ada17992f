-- $1 path, $2 schema, $3 seconds, $4 verdict, $5 whole, $6 rows, $7 missing, $8 extra, $9 different, $10 rejected, $11 report
INSERT INTO mirror.parity_runs (source_id, started_at, seconds, verdict, whole, rows, missing, extra, different, rejected, report)
SELECT s.source_id, clock_timestamp() - make_interval(secs => $3::float8), $3::float8, $4::text, $5::boolean, $6::bigint,
       $7::bigint, $8::bigint, $9::bigint, $10::bigint, $11::jsonb
  FROM mirror.sources s WHERE s.path = $1::text AND s.schema_name = $2::text
