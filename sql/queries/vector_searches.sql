-- $1 quoted names of tables: their vector indexes, with what a search that uses one has to say. The index: schema, name
-- and pages. The table: schema, name and pages. The vectors: expression, type, condition of the index, operator.
SELECT xn.nspname, x.relname, pg_relation_size(x.oid) / current_setting('block_size')::int,
       tn.nspname, t.relname, pg_relation_size(t.oid) / current_setting('block_size')::int,
       pg_get_indexdef(x.oid, 1, false),
       (SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = x.oid AND a.attnum = 1),
       coalesce(pg_get_expr(i.indpred, i.indrelid), 'true'),
       (SELECT format('OPERATOR(%I.%s)', pn.nspname, p.oprname)
          FROM pg_catalog.pg_opclass k
          JOIN pg_catalog.pg_amop o ON o.amopfamily = k.opcfamily AND o.amoppurpose = 'o' AND o.amopstrategy = 1
          JOIN pg_catalog.pg_operator p ON p.oid = o.amopopr
          JOIN pg_catalog.pg_namespace pn ON pn.oid = p.oprnamespace
         WHERE k.oid = i.indclass[0] AND o.amoplefttype = k.opcintype
         LIMIT 1)
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace xn ON xn.oid = x.relnamespace
  JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname IN ('hnsw', 'ivfflat')
  JOIN pg_catalog.pg_class t ON t.oid = i.indrelid AND t.relkind = 'r'
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
 WHERE i.indisvalid AND i.indrelid IN (SELECT to_regclass(t) FROM unnest($1::text[]) AS t)
 ORDER BY 1, 2
