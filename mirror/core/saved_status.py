"""The last report of a source's mirror, saved in its folder in the state directory for when none runs."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from mirror.core.errors import NewerStateError
from mirror.core.files import write_atomically
from mirror.core.status import STATUS_VERSION, StatusReport, encode
from mirror.core.versions import require_format, require_version, stamped

#: The file in a source's folder.
STATUS_FILE = "status.json"


def saved_report(source: Path, schema: str, folder: Path) -> StatusReport:
    """The report that a mirror saved last in a source's folder, as it was then; a new one if there is none.

    A file that is damaged, newer or cannot be read is named in ``last_error``.
    """
    path = folder / STATUS_FILE
    report = StatusReport(source=str(source), schema=schema)
    try:
        found = msgspec.json.decode(path.read_bytes())
        require_format(found, path)
        require_version(found, path, STATUS_VERSION)
        return msgspec.convert(found, StatusReport)
    except FileNotFoundError:
        return report
    except NewerStateError as error:
        return replace(report, last_error=str(error), error=error.to_dict())
    except (ValueError, OSError) as error:
        what = "cannot be read" if isinstance(error, OSError) else "is damaged"
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return replace(report, last_error=f"the saved status {what} ({path}): {why}")


def save_report(report: StatusReport, folder: Path) -> None:
    """Save it in a source's folder, for :func:`saved_report`. Raises ``OSError``."""
    values = stamped(msgspec.to_builtins(report))
    write_atomically(folder / STATUS_FILE, encode(values), durable=False)
