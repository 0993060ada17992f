"""What the Qt writers share."""

from _lines import serve

kept = []


def serve_qt(application, database, query, library):
    """Open a file with QSQLITE and answer each line; ``application``: drivers are loaded by one."""
    kept.append(application([]))

    def start(path):
        opened = database.addDatabase("QSQLITE")
        opened.setDatabaseName(path)
        opened.open()

        def run(text):
            asked = query(opened)
            good = asked.exec(text)
            while good and asked.isSelect() and asked.next():
                pass
            if not good:
                raise ValueError(asked.lastError().text())

        return run, opened.close

    memory = database.addDatabase("QSQLITE", "memory")
    memory.setDatabaseName(":memory:")
    memory.open()
    asked = query(memory)
    asked.exec("select sqlite_version()")
    asked.next()
    sqlite = asked.value(0)
    del asked
    memory.close()
    serve(start, library, sqlite)
