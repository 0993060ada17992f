"""How a source's tables are stored in Postgres: the generic mapping, and profiles of known programs (the MemuStore)."""

from mirror.core.tables import Profile
from mirror.postgres.profiles import generic, memustore

#: Of a source that is mirrored into the tables of an application.
ADOPTED = "adopted"
#: By name. ``--profile`` takes those of :data:`CHOICES`, and ``auto``.
PROFILES = {
    "generic": Profile("generic", generic.map_table),
    ADOPTED: Profile(ADOPTED, generic.map_table),  # `mirror adopt` says how; see mirror.postgres.adopted
    "memustore": Profile(
        "memustore",
        memustore.map_table,
        migrations="memustore",
        constraints=memustore.CONSTRAINTS,
        derived=memustore.DERIVED,
    ),
}
#: Those that a person may name.
CHOICES = tuple(name for name in PROFILES if name != ADOPTED)
