"""Read routers: an application's object mapper over its SQLite file and the tables that ``mirror adopt`` fills.

One module for each kind of program: :mod:`.django`, :mod:`.sqlalchemy`, :mod:`.langgraph`. Writes go to SQLite; reads
go where the settings say, and to Postgres only where :mod:`.choosing` can show that the answer is not of the past. Each
needs its extra (``pip install 'mirror[django]'``). Nothing else of the package may import them: they must not become
something that a mirror needs.
"""
