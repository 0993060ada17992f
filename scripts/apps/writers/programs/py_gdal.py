#@ title = "GDAL SQL (Debian)"
#@ apt = ["python3-gdal"]
#@ run = ["/usr/bin/python3", "{program}"]
#@ [modes]
#@ "wal" = "equal"
#@ "delete" = "equal"
"""GDAL's SQLite driver, which runs what it does not know as the engine's own SQL."""

import os
import sqlite3
import sys

from osgeo import gdal, ogr

gdal.UseExceptions()
gdal.SetConfigOption("OGR_SQLITE_JOURNAL", next((w for w in sys.argv[2:] if w in ("wal", "delete")), None))
sys.stdin.reconfigure(encoding="utf-8")
path = sys.argv[1]
opened = ogr.Open(path, 1) if os.path.exists(path) else ogr.GetDriverByName("SQLite").CreateDataSource(path, ["METADATA=NO"])
print("ready", gdal.__version__, sqlite3.sqlite_version, flush=True)
for line in sys.stdin:
    try:
        layer = opened.ExecuteSQL(line.strip())
        if layer is not None:
            opened.ReleaseResultSet(layer)
        print("ok", flush=True)
    except RuntimeError as error:
        print("error", str(error).replace("\n", " "), flush=True)
del opened
