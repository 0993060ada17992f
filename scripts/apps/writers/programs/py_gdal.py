# @ title = "GDAL SQL (Debian)"
# @ apt = ["python3-gdal"]
# @ run = ["/usr/bin/python3", "{program}"]
# @ [modes]
# @ "wal" = "equal"
# @ "delete" = "equal"
"""GDAL's SQLite driver, which gives the statements to the engine."""

import os
import sqlite3

from _lines import serve
from osgeo import gdal, ogr


def start(path):
    """Open the file, or make it without GDAL's own tables."""
    gdal.UseExceptions()
    made = os.path.exists(path)
    opened = [ogr.Open(path, 1) if made else ogr.GetDriverByName("SQLite").CreateDataSource(path, ["METADATA=NO"])]

    def run(text):
        layer = opened[0].ExecuteSQL(text)
        if layer is not None:
            opened[0].ReleaseResultSet(layer)

    return run, opened.clear


serve(start, gdal.__version__, sqlite3.sqlite_version)
