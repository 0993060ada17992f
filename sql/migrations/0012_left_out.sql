-- What rules in mirror.json have left out of a table, and which tables have the data of a virtual table of the source:
-- whoever compares the two stores has to know it.
ALTER TABLE mirror.tables
    ADD COLUMN omitted jsonb NOT NULL DEFAULT '[]',  -- names of columns of the source
    ADD COLUMN virtual_table text;                   -- its name; NULL: the source has an ordinary table
