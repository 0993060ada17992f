"""What the Python writers share: run each line of standard input, one after the other."""

import sys


def serve(start, library, sqlite="-"):
    """Answer until the input ends; ``start(path)`` returns what runs a statement and what closes the file."""
    sys.stdin.reconfigure(encoding="utf-8")
    try:
        run, close = start(sys.argv[1])
    except Exception as error:
        print(_error(error), flush=True)
        return
    print("ready", library, sqlite, flush=True)
    for line in sys.stdin:
        try:
            run(line.strip())
            print("ok", flush=True)
        except Exception as error:
            print(_error(error), flush=True)
    close()


def _error(error):
    return f"error {error!r}".replace("\n", " ")


def dbapi(connect):
    """Make of a DB-API ``connect(path)``, without transactions of its own, what :func:`serve` takes."""

    def start(path):
        connection = connect(path)

        def run(text):
            cursor = connection.cursor()
            cursor.execute(text)
            if cursor.description:
                cursor.fetchall()
            cursor.close()

        return run, connection.close

    return start
