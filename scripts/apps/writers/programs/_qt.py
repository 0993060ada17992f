"""What the Qt writers share."""

from _lines import serve


def serve_qt(database, query, library):
    """Open a file with QSQLITE and answer each line."""

    def start(path):
        opened = database.addDatabase("QSQLITE")
        opened.setDatabaseName(path)
        opened.open()

        def run(text):
            asked = query(opened)
            good = asked.exec(text)
            while good and asked.isSelect() and asked.next():
                pass
            asked.finish()
            if not good:
                raise ValueError(asked.lastError().text())

        return run, opened.close

    memory = database.addDatabase("QSQLITE", "memory")
    memory.setDatabaseName(":memory:")
    memory.open()
    asked = query(memory)
    asked.exec("select sqlite_version()")
    asked.next()
    serve(start, library, asked.value(0))
