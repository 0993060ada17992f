"""The capture process: follows the files that programs write and appends what they commit to the spool.

This package is a directory of its own because of one rule: **the process that runs it holds no SQLite connection**. It
opens and closes the source's files, and closing any descriptor on a SQLite database drops all the locks of its process
on that file (hazard 17, mirror/HAZARDS.md). So nothing here may load a SQLite library; nor a Postgres driver, which
would make it slow to start. It waits for no later stage of the mirror, and no source holds up another.

The mirror's own process uses two modules: ``link``, to talk to this one, and ``spool``, for the format of the records.
"""
