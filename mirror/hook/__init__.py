"""The mirror inside the program: one line at startup, see :mod:`mirror.hook.program`.

Loads neither APSW nor the standard ``sqlite3`` module: the program has chosen one of them.
"""
