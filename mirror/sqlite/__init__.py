"""SQLite's file format, and what two states of a file mean: bytes to values.

``format`` parses the WAL, its index, b-trees and records; ``decode`` turns pages that differ into changes of rows and
of the schema. Pure: no files, no clock, no logging. (``decode`` uses SQLite in memory, to parse a schema and to
compute virtual columns.)
"""
