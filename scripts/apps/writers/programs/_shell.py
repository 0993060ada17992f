"""What writers that are SQLite's shell share."""

import subprocess

from _lines import serve


def serve_shell(command, library=""):
    """Start a shell with the file's path as last argument; it answers a good statement with nothing."""

    def start(path):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        shell = subprocess.Popen([*command, path], text=True, **pipes)

        def run(text):
            said = ask(shell, text)
            if "rror" in said:
                raise ValueError(said)

        def close():
            shell.stdin.close()
            shell.wait()

        return run, close

    memory = subprocess.Popen([*command, ":memory:"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    version = ask(memory, "select sqlite_version()").strip("'")
    memory.communicate()
    serve(start, library or version, version)


def ask(shell, text):
    """Return what a shell prints for a statement."""
    shell.stdin.write(f"{text};\n.print =done\n")
    shell.stdin.flush()
    lines = []
    while (line := shell.stdout.readline()) and line != "=done\n":
        lines.append(line.strip())
    return " ".join(lines)
