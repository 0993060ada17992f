"""What the loop does with what hooks in programs send (:mod:`mirror.hook`).

``receive`` takes it from the sockets; ``crosscheck`` compares it with what the WAL says of the same commits; ``replay``
applies it where there is no WAL; ``provenance`` keeps who wrote; ``facade`` is all of that as the loop uses it. Nothing
here is needed for completeness in WAL mode: what does not come, the files say.
"""
