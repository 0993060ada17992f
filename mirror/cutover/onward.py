"""From each phase the commands that go on and back: what ends a move names them, and so does a plan that is READY.

Each is a line for a shell: the command, and what it does as a comment.
"""

from __future__ import annotations

from mirror.core.commands import command

#: The guard rail that nothing but a person can see to.
BACKUPS = "backups"


def onward(phase: int, source: str, options: str, acknowledged: str = "", *, adopted: bool = False) -> list[str]:
    """The commands from a phase, the one that goes on first.

    ``options``: those by which the mirror is reached. ``acknowledged``: those of the guard rails that were
    acknowledged. Both with a space in front. Without that of the backups no move begins: then the plan comes first.
    ``adopted``: whether it is mirrored into an application's own tables.
    """

    def line(what: str, does: str, more: str = "") -> str:
        return f"{command(what, source, options, more)}  # {does}"

    steps = "--dry-run prints the steps"
    plans = BACKUPS not in acknowledged.split()
    if adopted and phase < 3:
        does = "phase 3: the application uses Postgres, and the mirror carries what it writes there into the file"
        rollback = [line("cutover rollback", "back to phase 1")] if phase == 2 else []
        if plans:
            return [line("cutover plan", f"what has to be seen to before {does}"), *rollback]
        return [
            line("cutover advance", f"{does} (the way back: mirror cutover rollback); {steps}", acknowledged),
            *rollback,
        ]
    if phase == 1:
        does = "phase 2: programs read from Postgres, and write to the file as before"
        if plans:
            return [line("cutover plan", f"what has to be seen to before {does}")]
        return [line("cutover advance", f"{does} (the way back: mirror cutover rollback); {steps}", acknowledged)]
    if phase == 2:
        does = "phase 3: programs write to Postgres, and the mirror carries that into the file"
        tried = "before phase 3: try it on a copy, and see how long programs would have to wait"
        back = line("cutover rollback", "back to phase 1: programs read from the file again")
        if plans:
            return [line("cutover plan", f"what has to be seen to before {does}"), back]
        return [
            line("cutover rehearse", tried, acknowledged),
            line("cutover advance", f"{does}; {steps}", acknowledged),
            back,
        ]
    return [
        line("cutover finalize", "ends the way back, once programs need none; leave the mirror running until then"),
        line("cutover rollback", "back to phase 2: programs write to the file again, which has all from Postgres"),
    ]


def finalized(source: str, options: str) -> str:
    """What is so after `mirror cutover finalize`; ``options`` as for :func:`onward`."""
    return (
        "nothing has to be done: programs use Postgres alone, no mirror is needed, and the file is an old copy;"
        f" `{command('remove', source, options)}` takes away what the mirror has of it, and leaves its tables"
    )
