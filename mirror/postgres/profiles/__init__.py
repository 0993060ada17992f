"""How a source's tables are stored in Postgres: the generic mapping, and profiles of known programs (the MemuStore)."""

from mirror.core.tables import Profile
from mirror.postgres.profiles import generic, memustore

#: By name. ``--profile`` takes these, and ``auto``.
PROFILES = {
    "generic": Profile("generic", generic.map_table),
    "memustore": Profile(
        "memustore",
        memustore.map_table,
        migrations="memustore",
        constraints=memustore.CONSTRAINTS,
        derived=memustore.DERIVED,
    ),
}
