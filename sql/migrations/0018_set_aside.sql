-- Foreign keys and triggers of an application's tables that do not act while a source is mirrored into these: what they
-- were. A source that has any cannot be forgotten before they are made again.

CREATE TABLE mirror.set_aside (
    source_id   bigint NOT NULL REFERENCES mirror.sources,
    schema_name text   NOT NULL,
    table_name  text   NOT NULL,
    kind        text   NOT NULL CHECK (kind IN ('foreign key', 'trigger')),
    name        text   NOT NULL,
    definition  text   NOT NULL,  -- of a foreign key as pg_get_constraintdef gives it; of a trigger its tgenabled
    PRIMARY KEY (schema_name, table_name, kind, name)
);
