-- The SQL of `mirror adopt --after-copy`, which is among the decisions: whether it was run.

ALTER TABLE mirror.adoptions
    ADD COLUMN after_copy_begun integer NOT NULL DEFAULT 0,  -- how often it was begun since it was given
    ADD COLUMN after_copy_at    timestamptz,                 -- when it was run, in that transaction; NULL: it was not
    ADD COLUMN after_copy_error text;                        -- why not, so that it is not tried again; NULL: it can be
