-- The way back: what programs write in Postgres after the switch, to be carried into the SQLite file.
--
-- Triggers put the key of each row that is written into mirror.outbox, with the transaction's id; a TRUNCATE puts a
-- NULL there, for all of the table's rows. The rows themselves are read where they are. A batch is what one snapshot of
-- Postgres sees and the one before did not, so SQLite only ever shows states that Postgres has shown.

CREATE TABLE mirror.outbox (
    source_id    bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    source_table text NOT NULL,
    key          text[],                        -- in Postgres' text forms; of bytea the hexadecimal digits
    written_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- By transaction: a long one, while it is open, keeps dead rows in the table, and they are not read.
CREATE INDEX outbox_xid ON mirror.outbox (source_id, xid);
ALTER TABLE mirror.outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
                               autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000);

-- What the file has: everything that the transactions visible in this snapshot have written.
CREATE TABLE mirror.reverse (
    source_id  bigint PRIMARY KEY REFERENCES mirror.sources ON DELETE CASCADE,
    snapshot   pg_snapshot NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    applied_at timestamptz,
    batches    bigint NOT NULL DEFAULT 0,
    rows       bigint NOT NULL DEFAULT 0,
    lost       text                             -- why it cannot go on; NULL: it can
);

-- Rows of Postgres that the file does not take: each is tried again with every batch.
CREATE TABLE mirror.reverse_rejects (
    source_id    bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    source_table text NOT NULL,
    key          text[] NOT NULL,
    reason       text NOT NULL,
    first_seen   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX reverse_rejects_table ON mirror.reverse_rejects (source_id, source_table);
