"""What the Qt writers share."""

import sys


def serve(database, query, library):
    """Open a file with QSQLITE and answer each line."""
    sys.stdin.reconfigure(encoding="utf-8")
    opened = database.addDatabase("QSQLITE")
    opened.setDatabaseName(sys.argv[1])
    opened.open()
    asked = query(opened)
    asked.exec("select sqlite_version()")
    asked.next()
    print("ready", library, asked.value(0), flush=True)
    asked.finish()
    for line in sys.stdin:
        asked = query(opened)
        if asked.exec(line.strip()):
            while asked.isSelect() and asked.next():
                pass
            print("ok", flush=True)
        else:
            print("error", asked.lastError().text().replace("\n", " "), flush=True)
        asked.finish()
    del asked
    opened.close()
