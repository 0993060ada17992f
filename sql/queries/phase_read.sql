-- $1 source: its phase. One row.
SELECT coalesce(p.phase, 1), coalesce(p.epoch, 0), p.moving_to, extract(epoch FROM p.sealed_at)::float8,
       extract(epoch FROM p.finalized_at)::float8, coalesce(p.fence, 'hold'), coalesce(p.finalized_why, ''),
       extract(epoch FROM p.sealed_at + p.reverse_window)::float8,
       coalesce(p.sealed_at + p.reverse_window <= now(), false), coalesce(p.opening, false)
  FROM (SELECT $1::bigint AS source_id) s LEFT JOIN mirror.phase p USING (source_id)
