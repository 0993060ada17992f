"""Pages that differ to changes of rows and of the schema: values only, no files, no clock, no logging."""
