"""The ``mirror`` command, to which no lag is too long: the machine may be busy with other tests."""

from __future__ import annotations

import math
import sys

from mirror.cli.main import main as command
from mirror.cutover import rails


def main() -> None:
    rails.LAG_SECONDS = math.inf
    sys.argv[0] = "mirror"
    command()


if __name__ == "__main__":
    main()
