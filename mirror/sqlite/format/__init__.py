"""SQLite's file format: bytes in, values out. No files, no clock, no logging.

Source of every layout here: https://sqlite.org/fileformat2.html and https://sqlite.org/walformat.html.
"""
