-- What must be there before the first migration. Run under the migration lock.
CREATE SCHEMA IF NOT EXISTS mirror;
CREATE TABLE IF NOT EXISTS mirror.migrations (
    version    int PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    mirror_version text  -- of the mirror that has applied it; NULL: not known
);
