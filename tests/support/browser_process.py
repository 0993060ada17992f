"""Starts a Chromium with its debugging pipe, which it reads and writes as descriptors 3 and 4, in place of itself.

Arguments: the two descriptors, and the command.
"""

from __future__ import annotations

import fcntl
import os
import sys

if __name__ == "__main__":
    ends = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
    for number, end in zip((3, 4), ends, strict=True):
        os.dup2(end, number)
        os.close(end)
    os.execvp(sys.argv[3], sys.argv[3:])
