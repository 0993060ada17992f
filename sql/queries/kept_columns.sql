-- $1 a table that is kept, $2 the one in its place (both as quoted names): whether the first has columns that the second
-- has not. Those that the mirror adds have nothing of their own.
SELECT EXISTS (
    SELECT a.attname FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
       AND a.attname NOT IN ('_rowid', '_original')
    EXCEPT
    SELECT a.attname FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = $2::regclass AND a.attnum > 0 AND NOT a.attisdropped)
