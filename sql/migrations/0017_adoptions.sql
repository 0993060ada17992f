-- Sources that are mirrored into tables which an application's own migrations made: what was decided when that began.

CREATE TABLE mirror.adoptions (
    source_id  bigint PRIMARY KEY REFERENCES mirror.sources ON DELETE CASCADE,
    decisions  jsonb  NOT NULL,              -- mirror/postgres/adopted/decisions.py says what is in it
    adopted_at timestamptz NOT NULL DEFAULT now()
);
