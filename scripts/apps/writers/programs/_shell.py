"""What writers that are SQLite's shell share: its answers are read here, because it has none for a good statement."""

import subprocess
import sys


def serve(command, library=""):
    """Start a shell and answer each line."""
    sys.stdin.reconfigure(encoding="utf-8")
    shell = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(text):
        shell.stdin.write(text + "\n.print =done\n")
        shell.stdin.flush()
        lines = []
        while (line := shell.stdout.readline().rstrip("\n")) != "=done" and shell.poll() is None:
            lines.append(line)
        return " ".join(lines)

    version = run("select sqlite_version();").strip("'")
    print("ready", library or version, version, flush=True)
    for line in sys.stdin:
        said = run(line.strip() + ";")
        print("error " + said if "rror" in said else "ok", flush=True)
    shell.stdin.close()
    sys.exit(shell.wait())
