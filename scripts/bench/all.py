"""All benchmarks with short settings, in under five minutes, and one summary of what they found.

The figures are noisier than those of each benchmark by itself with its defaults.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import BENCH, Figure, environment, parser, print_table

SHORT = {
    "adopt": ["--rows", "100000", "--rounds", "2", "--seconds", "2"],
    "changes": ["--singles", "500", "--rows", "20000", "--rounds", "5"],
    "cost": [
        *("--rounds", "1", "--seconds", "2", "--unpaced", "10000"),
        *("--idle", "5", "--sources", "20", "--starts", "3"),
    ],
    "cutover": ["--seconds", "2", "--rows", "100", "--rounds", "3"],
    "decode": ["--size", "10", "100", "--commits", "2000", "--rows", "50000"],
    "lag": ["--seconds", "3", "--rounds", "2"],
    "snapshot": ["--rows", "200000", "--rounds", "2"],
    "watch": ["--rows", "50000", "--rounds", "5"],
    "writer": ["--rounds", "3", "--unpaced", "30000", "--seconds", "2", "--commits", "100000"],
    "bulk": ["--rounds", "1"],
    "downtime": ["--rows", "200000", "--rounds", "1"],
    "agents": ["--commits", "300"],
    "fleet": ["--sources", "1", "20", "--rest", "12", "--idle", "5", "--commits", "100"],
    "freshness": ["--rounds", "3", "--seconds", "3"],
    "hook": ["--rounds", "3", "--full", "3000", "--normal", "40000"],
    "storage": [
        *("--rows", "5000", "--rounds", "500", "--seconds", "2"),
        *("--items", "5000", "--searches", "50", "--peer-items", "0"),
    ],
    "memory": ["--rows", "200000", "--ops", "insert", "update"],
    "parity": ["--rows", "200000", "--rounds", "2", "--seconds", "2", "--commits", "10000", "--link-size", "10"],
}


def main() -> None:
    """Run them one after another."""
    made = parser(__doc__)
    made.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(SHORT)}")
    options = made.parse_args()
    if unknown := set(options.names) - SHORT.keys():
        made.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    lines: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="mirror-bench-") as folder:
        for name in options.names or SHORT:
            begun = time.monotonic()
            path = Path(folder) / name
            command = [sys.executable, str(BENCH / f"{name}.py"), *SHORT[name], "--json", str(path)]
            ran = subprocess.run(command, env=environment())
            print(f"({time.monotonic() - begun:.0f} s)", flush=True)
            if ran.returncode:
                lines.append(Figure(f"{name}: FAILED", ran.returncode, "exit code"))
                continue
            for what, value, unit, against, ratio in json.loads(path.read_text())["lines"]:
                lines.append(Figure(f"{name}: {what}", value, unit, against, ratio))
    print("\nSummary")
    print_table(lines)
    if options.json:
        found = [[line.name, line.value, line.unit, line.against, line.ratio] for line in lines]
        Path(options.json).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
