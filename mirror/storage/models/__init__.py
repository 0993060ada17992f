"""Rows of a program's tables, as frozen dataclasses: their fields are the tables' columns, in the same order.

A class declares its table, so :mod:`mirror.storage.tables` knows every name and kind from here alone.
"""
