"""Turn pages that differ into changes of rows and of the schema: values only, no files, no clock, no logging."""
