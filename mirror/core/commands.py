"""Commands in texts for people: made, or completed, so that they can be pasted into a shell.

A text names a command between back-ticks. Code that knows neither the source nor the options by which the mirror is
reached names the bare command (`mirror cutover status`); whoever shows the text completes it.
"""

from __future__ import annotations

import re
import shlex

from mirror.core.errors import MirrorError

_NAMED = re.compile(r"`mirror ([^`]+)`")
#: The words of a command: what comes after them is an argument or an option.
_WORDS = re.compile(r"[a-z]+(?: [a-z]+)*(?=$| )")
#: What stands for an argument that a person has to think of, as in `mirror up FILE`.
_STAND_INS = re.compile(r"(?: [A-Z]+)+(?=$| )")
#: Commands that take no source, or not the options of a mirror.
_OTHERS = ("completion", "demo", "mcp", "service")


def command(what: str, source: str, options: str, more: str = "") -> str:
    """``mirror``, ``what``, the source, the options and ``more``, for a shell. The latter two begin with a space."""
    return f"mirror {what}{source and f' {shlex.quote(source)}'}{options}{more}"


def completed(text: str, source: str, options: str) -> str:
    """The text, in which each bare command has the source and the options, and one with its source the options.

    ``source``: empty, where a command is for all sources. ``options``: with a space in front.
    """

    def complete(found: re.Match[str]) -> str:
        words = _WORDS.match(found[1])
        if words is None or words[0].split()[0] in _OTHERS:
            return found[0]
        lacking = _lacking(found[1], options)
        if options and not lacking:
            return found[0]
        rest = found[1][words.end() :]
        if stand_ins := _STAND_INS.match(rest):
            return f"`mirror {words[0]}{stand_ins[0]}{lacking}{rest[stand_ins.end() :]}`"
        if not rest or rest.startswith(" -"):
            return f"`{command(words[0], source, lacking, rest)}`"
        named = f" {shlex.quote(source)}"
        if source and (rest == named or rest.startswith(f"{named} -")):
            return f"`{command(words[0], source, lacking, rest.removeprefix(named))}`"
        return found[0]

    return _NAMED.sub(complete, text)


def _lacking(command: str, options: str) -> str:
    """Those of the options, each with its value, that a command does not name itself."""
    words = shlex.split(options)
    pairs = zip(words[::2], words[1::2], strict=True)
    return "".join(f" {name} {shlex.quote(value)}" for name, value in pairs if f" {name} " not in command)


def complete(error: MirrorError, source: str, options: str) -> None:
    """Complete the commands that the next step of an error names."""
    error.next_step = completed(error.next_step, source, options)
