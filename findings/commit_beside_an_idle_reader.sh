#!/usr/bin/env bash
# SQLite 3.54.1 (apsw 3.54.1.0), WAL mode.
#
# A commit is what the WAL says: its frames, the last one marked as a commit. A writer is killed right after it has
# synced them, before it enters them in the WAL index (here by its own VFS, which ends the process behind that sync).
# Whether the row exists then depends on who else was there. If nobody was, the next program recovers the index from
# the WAL and finds the row. Beside a connection that was open all the time, idle and without a transaction, nobody
# recovers: the row is missing for every program, and the next commit overwrites it. A copy of the database and its WAL,
# as a backup takes it, has the row at the same moment, so a restore brings back a row that the live database never had.
#
# Output seen:
#   alone:          the next sees ['first', 'killed'], a copy ['first', 'killed'], at last ['first', 'killed', 'next']
#   beside another: the next sees ['first'], a copy ['first', 'killed'], at last ['first', 'next']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0 || exit 2

cat >"$folder/program.py" <<'EOF'
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import apsw


class Files(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("killing", "")

    def xOpen(self, name, flags):
        return File(name, flags)


class File(apsw.VFSFile):
    def __init__(self, name, flags) -> None:
        self.wal = bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        super().__init__("", name, flags)

    def xSync(self, flags) -> None:
        super().xSync(flags)
        if self.wal and self.xFileSize() > 32:  # more than its header: the frames of the commit
            os.kill(os.getpid(), signal.SIGKILL)


def process(what: str, path: pathlib.Path) -> str:
    run = subprocess.run([sys.executable, __file__, what, path], stdout=subprocess.PIPE, text=True)
    assert (run.returncode == -signal.SIGKILL) == (what == "killed"), run.returncode
    return run.stdout.strip()


def life(folder: pathlib.Path, idle: bool) -> str:
    folder.mkdir()
    path, copy = folder / "notes.db", folder / "copy.db"
    first = apsw.Connection(str(path))
    first.pragma("journal_mode", "wal")
    first.execute("CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT); INSERT INTO note(text) VALUES ('first')")
    if not idle:
        first.close()
    process("killed", path)
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    sees, copied = process("see", path), process("see", copy)
    return f"the next sees {sees}, a copy {copied}, at last {process('next', path)}"


what, path = sys.argv[1:]
if what == "both":
    print("alone:         ", life(pathlib.Path(path, "alone"), idle=False))
    print("beside another:", life(pathlib.Path(path, "beside"), idle=True))
else:
    vfs = Files()  # has to live as long as the connection
    db = apsw.Connection(path, vfs="killing" if what == "killed" else None)
    db.pragma("synchronous", "full")
    if what != "see":
        db.execute("INSERT INTO note(text) VALUES (?)", (what,))
    print([text for (text,) in db.execute("SELECT text FROM note ORDER BY id")])
EOF

mkdir "$folder/files"
"$folder/venv/bin/python" "$folder/program.py" both "$folder/files" | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
alone:          the next sees ['first', 'killed'], a copy ['first', 'killed'], at last ['first', 'killed', 'next']
beside another: the next sees ['first'], a copy ['first', 'killed'], at last ['first', 'next']
EOF
