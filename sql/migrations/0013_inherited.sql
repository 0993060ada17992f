-- Columns that are left out because they have, or may have, the values of one that a rule in mirror.json leaves out, under
-- the name that it had before: [column, name of that rule].
ALTER TABLE mirror.tables ADD COLUMN inherited jsonb NOT NULL DEFAULT '[]';
