"""``mirror demo``: the whole story in a minute, on a store that it makes itself.

``writer`` stands for the user's program and is a process of its own, on the standard ``sqlite3`` module.
"""
