"""A program that only reads the file, again and again: ``python fleet_reader_process.py FILE SAID STOP``.

In one transaction each it reads what :class:`tests.support.raw_programs.RawProgram` and ``LongTransactions`` write in
Postgres, whose transactions keep rules across rows and tables. The file must never show one broken, nor go back. SAID
gets a line for each new state, or the rule that was broken; it ends when STOP exists, or a rule is broken.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path

QUERY = """
SELECT (SELECT coalesce(sum(balance), 0) FROM accounts), (SELECT count(*) FROM accounts),
       (SELECT n FROM marks), (SELECT count(*) FROM journal), (SELECT coalesce(max(n), 0) FROM journal),
       (SELECT count(DISTINCT v) FROM pairs), (SELECT count(*) FROM pairs), (SELECT max(v) FROM pairs)
"""


def main(database: str, said: Path, stop: Path) -> int:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None, timeout=200)
    last: tuple[int, int] = (0, 0)
    with said.open("a", buffering=1) as log:
        while not stop.exists():
            # One statement is one snapshot.
            total, accounts, mark, journal, newest, values, pairs, version = connection.execute(QUERY).fetchone()
            broken = [
                name
                for name, holds in (
                    ("the sum of the accounts is 0", total == 0 and accounts > 0),
                    ("the mark is the number of rows of the journal", mark == journal == newest),
                    ("a pair has one value", (values, pairs) == (1, 2)),
                    ("nothing goes back", mark >= last[0] and version >= last[1]),
                )
                if not holds
            ]
            if broken:
                log.write(
                    f"broken: {broken}: {(total, accounts, mark, journal, newest, values, pairs, version, last)}\n"
                )
                return 1
            if (mark, version) != last:
                last = mark, version
                log.write(f"{mark} {version}\n")
            time.sleep(0.003)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
