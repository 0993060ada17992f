-- $1 source: delete the rejects that the rows of this transaction have left behind (generation -1). By source table: how
-- many rejects there are, how many of them came with this transaction, how many it deletes, and reason and key of the
-- first that came.
WITH gone AS (DELETE FROM mirror.rejects WHERE source_id = $1::bigint AND generation = -1)
SELECT c.source_table, c.there, c.came, c.gone, r.reason, r.key
  FROM (SELECT source_table,
               count(*) FILTER (WHERE generation >= 0) AS there,
               count(*) FILTER (WHERE generation >= 0 AND first_seen = now()) AS came,
               count(*) FILTER (WHERE generation = -1) AS gone,
               min(reject_id) FILTER (WHERE generation >= 0 AND first_seen = now()) AS first
          FROM mirror.rejects WHERE source_id = $1::bigint GROUP BY 1) AS c
  LEFT JOIN mirror.rejects AS r ON r.reject_id = c.first
