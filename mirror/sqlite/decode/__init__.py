"""Page sets to row changes: bytes and values only, no files, no clock, no logging."""
