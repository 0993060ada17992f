-- Tables that Postgres will not take as they are (too many columns, a view that depends on a column that
-- must change, a name that is taken): the other tables go on; these are tried again until they are equal.

CREATE TABLE mirror.refusals (
    source_id    bigint NOT NULL REFERENCES mirror.sources ON DELETE CASCADE,
    source_table text   NOT NULL,
    reason       text   NOT NULL,
    next_step    text   NOT NULL,
    since        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source_id, source_table)
);
