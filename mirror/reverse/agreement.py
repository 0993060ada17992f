"""The last look before a way back ends: all rows of the file, and which of its differences are known.

The file should be equal to the snapshot of Postgres that the follower keeps open, so programs are not held up in
either. Where another connection has committed to the file since it was last compared, what differs was written by
programs: it is kept in ``mirror.strays``. Where none has, a difference that is not kept there is a defect of the way
back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mirror.core.agreement import Agreement
from mirror.reverse.kept import KeptStrays
from mirror.reverse.side import Side
from mirror.reverse.strays import FileRows, differing, parts
from mirror.reverse.writer import SqliteWriter

#: So many of the rows that differ are named.
MOST_NAMED = 5


def compare(
    files: Mapping[str, FileRows],
    side: Side,
    snapshot: str,
    kept: KeptStrays,
    writer: SqliteWriter,
    since: str,
    who: Callable[[], list[str]],
    is_unsure: Callable[[str], bool],
    meanwhile: Callable[[], None],
) -> Agreement | None:
    """Compare all rows of the file with ``side``, which shows ``snapshot``.

    ``since``: strays that were first seen after this time of Postgres are not known. ``who``: looks which processes
    have the file open. ``is_unsure``: whether a program may have written to a table since it was compared. Returns None
    if a table was truncated meanwhile, of which the snapshot then shows nothing. Raises psycopg's errors and
    ``SourceError``.
    """
    rows = rejects = strays = unknown = not_carried = 0
    named: list[str] = []
    with writer.reading():
        begun = kept.now()
        doubtful = {name for name in files if is_unsure(name)}
        for name, file in files.items():
            rows += file.count()
            for part in parts(differing(file, side.rows[name], meanwhile)):
                if kept.truncated(snapshot, name):
                    return None
                refused = kept.rejected(name, [one.text for one in part if one.text is not None])
                found = [file.stray(one) for one in part if one.text is None or tuple(one.text) not in refused]
                rejects += len(part) - len(found)
                known = kept.known(name, [one.key for one in found], since)
                others = [one.key for one in found if one.key not in known]
                strays += len(found) - len(others)
                of_programs = len(others) if name in doubtful else len(kept.known(name, others))
                unknown += of_programs
                not_carried += len(others) - of_programs
                named += [f"{name} {key}" for key in others[: MOST_NAMED - len(named)]]
                if name in doubtful and found:
                    kept.found(found, begun, who())
        if doubtful:
            kept.compared(begun, doubtful)
        writer.foreign = False
    return Agreement(
        rows=rows,
        snapshot=snapshot,
        rejects=rejects,
        strays=strays,
        unknown=unknown,
        not_carried=not_carried,
        named=named,
    )
