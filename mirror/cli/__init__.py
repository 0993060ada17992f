"""The command line: each command is a thin module over the other packages, loaded only when it is run.

It prints for a person, or JSON for a script; it decides nothing that a program could not decide with the same packages.
No other package may import it.
"""
