"""The loop's use of the commits that hooks in programs send (:mod:`mirror.hook`).

``receive`` reads them from the sockets; ``crosscheck`` compares them with the same commits decoded from the WAL;
``replay`` applies them where there is no WAL; ``provenance`` records who wrote; ``facade`` is all of that as the loop
uses it. In WAL mode nothing here is needed for completeness: a commit that no hook sends is found in the source's
files.
"""
