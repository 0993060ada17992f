"""SQLite's file format and what it means: bytes to values, no files."""
