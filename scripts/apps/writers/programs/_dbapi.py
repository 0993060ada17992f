"""What writers with Python's DB-API share: run each line of standard input."""

import sys


def serve(connect, library, sqlite):
    """Open with ``connect(path)`` a connection without transactions of its own, and answer until the input ends."""
    sys.stdin.reconfigure(encoding="utf-8")
    try:
        connection = connect(sys.argv[1])
    except Exception as error:
        sys.exit(print("error", repr(error).replace("\n", " "), flush=True))
    print("ready", library, sqlite, flush=True)
    for line in sys.stdin:
        try:
            cursor = connection.cursor()
            cursor.execute(line.strip())
            if cursor.description:
                cursor.fetchall()
            cursor.close()
            print("ok", flush=True)
        except Exception as error:
            print("error", repr(error).replace("\n", " "), flush=True)
    connection.close()
