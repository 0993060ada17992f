-- What it has cost to heal a gap: rows written and deleted in Postgres, and seconds. NULL: not known, or a whole copy.

ALTER TABLE mirror.gaps ADD COLUMN rows bigint, ADD COLUMN seconds double precision;
