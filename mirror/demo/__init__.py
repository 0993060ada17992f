"""The demo: a memory store that a program of its own writes, mirrored, killed, recovered and proved equal."""
