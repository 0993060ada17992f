"""Settings: ``mirror.json``, what ``argent.json`` says, environment variables and flags.

Only :mod:`.settings` decides which place counts; the other modules find and read the files. Nothing here writes one.
"""
