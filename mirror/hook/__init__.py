"""Inside the user's program: one line at its start (:mod:`mirror.hook.api`) begins to mirror what it writes.

It must never raise into the program, block it or cost it much; it loads neither APSW nor the standard ``sqlite3``
module, because the program has chosen one of them (hazard 17, mirror/HAZARDS.md), and logs through the program's own
:mod:`logging`.
"""
