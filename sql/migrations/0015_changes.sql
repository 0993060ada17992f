-- The change feed's log: what each transaction that was applied did, written in that transaction. Only if it is wished.

CREATE TABLE mirror.changes (
    source_id  bigint NOT NULL,             -- no reference: checking it would cost each transaction
    generation bigint NOT NULL,
    frame      bigint NOT NULL,
    entry      text   NOT NULL,             -- the JSON document, to the letter
    PRIMARY KEY (source_id, generation, frame)
);
ALTER TABLE mirror.changes SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- How far those have read who cannot say so themselves: the webhook.
CREATE TABLE mirror.change_readers (
    source_id  bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    reader     text   NOT NULL,
    generation bigint NOT NULL,
    frame      bigint NOT NULL,
    PRIMARY KEY (source_id, reader)
);

-- Which database this is, for a Redis to which several mirrors may publish.
CREATE TABLE mirror.change_feed (
    database_id uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO mirror.change_feed DEFAULT VALUES;
