"""From the source's files to committed page images: follow the WAL, spool it, keep the shadow."""
