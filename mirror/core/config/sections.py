"""The keys of mirror.json and their types: the only description of them.

Files are checked against these classes (:mod:`~mirror.core.config.mirror_json`), and ``mirror config schema`` prints
them as a JSON schema. Loading this module loads msgspec, so it is imported only where a file is there.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Text = Annotated[str, Meta(min_length=1)]
Database = Literal["sqlite", "postgres"]
#: The host of a server: nothing that could be a URL with a password, and no line break at its end; or the path of a
#: Unix socket.
HOST = r"^(?:/(?!/).*|[^\s@/?#]+)(?![\s\S])"


class Section(Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """An object; keys that are left out are UNSET."""


class SourceEntry(Section):
    """A SQLite file, and its own settings."""

    path: Annotated[str, Meta(min_length=1, description="The file, relative to mirror.json.")]
    agent: Annotated[Text, Meta(description="The agent that its rows belong to.")] | UnsetType = UNSET
    schema: Annotated[Text, Meta(description="The Postgres schema of its tables; public.")] | UnsetType = UNSET
    profile: (
        Annotated[
            Literal["auto", "generic", "memustore"],
            Meta(description="How its tables are stored: auto (the default) recognises a MemuStore and its dashboard."),
        ]
        | UnsetType
    ) = UNSET


class PostgresSection(Section):
    """The Postgres that is mirrored into."""

    connection_string: (
        Annotated[
            Text, Meta(description="A URI or keywords, as psql takes them. Better without a password: ~/.pgpass.")
        ]
        | UnsetType
    ) = UNSET


class StoragePostgres(Section):
    """Where the program itself reaches Postgres."""

    connection_string: str | UnsetType = UNSET


class StorageRedis(Section):
    """Where the program reaches Redis."""

    host: (
        Annotated[
            str,
            Meta(
                min_length=1,
                pattern=HOST,
                description="127.0.0.1 if only the port is given; or the path of a Unix socket. The password is in "
                "MIRROR_REDIS_PASSWORD.",
            ),
        ]
        | UnsetType
    ) = UNSET
    port: Annotated[int, Meta(ge=1, le=65535, description="6380 if it is left out.")] | UnsetType = UNSET


class ArgentStorage(Section):
    """The keys that ArgentOS has in ``storage``: with any other it drops its whole configuration."""

    backend: (
        Annotated[Literal["sqlite", "dual", "postgres"], Meta(description="Where the program's data is; sqlite.")]
        | UnsetType
    ) = UNSET
    read_from: Annotated[Database, Meta(description="Follows from backend.")] | UnsetType = UNSET
    write_to: Annotated[list[Database], Meta(description="Follows from backend.")] | UnsetType = UNSET
    postgres: StoragePostgres | UnsetType = UNSET
    redis: StorageRedis | UnsetType = UNSET


class OurPostgres(StoragePostgres):
    """Where the program itself reaches Postgres."""

    max_connections: (
        Annotated[int, Meta(ge=1, le=10_000, description="Of one process, at the same time; 10.")] | UnsetType
    ) = UNSET


class OurRedis(StorageRedis):
    """Where the program reaches Redis."""

    db: Annotated[int, Meta(ge=0, le=65535, description="Number of the database; 0.")] | UnsetType = UNSET


class ReadsSection(Section):
    """How reads of the storage adapters keep up with writes. A change takes effect within a second."""

    max_wait_ms: (
        Annotated[
            int, Meta(ge=0, le=60_000, description="For the newest commit to reach Postgres; then SQLite answers; 20.")
        ]
        | UnsetType
    ) = UNSET
    never_wait: (
        Annotated[bool, Meta(description="For emergencies: SQLite answers at once where Postgres is behind; false.")]
        | UnsetType
    ) = UNSET
    always_sqlite: (
        Annotated[bool, Meta(description="For emergencies: SQLite answers, whatever readFrom says; false.")] | UnsetType
    ) = UNSET
    shadow_percent: (
        Annotated[float, Meta(ge=0, le=100, description="Of the reads, run on both stores to compare the answers; 0.")]
        | UnsetType
    ) = UNSET


class StorageSection(ArgentStorage):
    """Values that replace argent.json's, for a program that uses storage adapters; and keys that only we have."""

    postgres: OurPostgres | UnsetType = UNSET
    redis: OurRedis | UnsetType = UNSET
    reads: ReadsSection | UnsetType = UNSET


class CutoverSection(Section):
    """What a move to Postgres needs to be told."""

    sequences: (
        Annotated[
            dict[str, list[Text]],
            Meta(
                description="By the name of a sequence in Postgres that no column has: the columns (table.column) "
                "above whose values it is set."
            ),
        ]
        | UnsetType
    ) = UNSET


class LogSection(Section):
    """The log of `mirror up`."""

    format: (
        Annotated[Literal["text", "json"], Meta(description="text for people (the default), or a JSON object a line.")]
        | UnsetType
    ) = UNSET
    level: (
        Annotated[Literal["debug", "info", "warning", "error"], Meta(description="The least that is logged; info.")]
        | UnsetType
    ) = UNSET


class AlertsSection(Section):
    """What is told to a webhook, and from when on."""

    webhook: (
        Annotated[
            Text,
            Meta(
                description="http:// or https://: gets a POST with JSON when something goes wrong, and when it is over."
                " Where the address itself is a secret, set MIRROR_ALERTS_WEBHOOK instead."
            ),
        ]
        | UnsetType
    ) = UNSET
    hold_seconds: (
        Annotated[float, Meta(ge=0, le=86_400, description="For which it must last, or be over, to be told; 60.")]
        | UnsetType
    ) = UNSET
    lag_seconds: (
        Annotated[float, Meta(ge=0.1, le=86_400, description="Age of the oldest commit that Postgres lacks; 60.")]
        | UnsetType
    ) = UNSET
    rejects: Annotated[int, Meta(ge=0, le=1_000_000_000, description="Rows that Postgres may lack; 0.")] | UnsetType = (
        UNSET
    )
    parity_hours: (
        Annotated[float, Meta(ge=0.1, le=87_600, description="Age of the last comparison of all values; 48.")]
        | UnsetType
    ) = UNSET
    free_bytes: (
        Annotated[int, Meta(ge=0, le=1 << 60, description="That must be free in the state directory; 1000000000.")]
        | UnsetType
    ) = UNSET


class WebhookSection(Section):
    """Who is told by HTTP. The secret with which that is signed is in ``MIRROR_WEBHOOK_SECRET``, and in no file."""

    url: Annotated[str, Meta(min_length=1, description="http or https: each transaction is posted there, in order.")]
    tables: Annotated[list[Text], Meta(description="Only what happens to these tables.")] | UnsetType = UNSET


class ChangesSection(Section):
    """What is told of each transaction that was applied: in Redis, if storage.redis is there, on the port of http,
    and to a webhook.
    """

    keep: (
        Annotated[int, Meta(ge=100, le=10_000_000, description="Transactions that the stream in Redis keeps; 10000.")]
        | UnsetType
    ) = UNSET
    log: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=10_000_000,
                description="Transactions of a source that Postgres keeps, for readers that were away; 0, none.",
            ),
        ]
        | UnsetType
    ) = UNSET
    webhook: WebhookSection | UnsetType = UNSET


class OlderSection(Section):
    """``storage.mirror`` in argent.json: where our settings were before mirror.json."""

    sources: list[Text | SourceEntry] | UnsetType = UNSET
    state_dir: Text | UnsetType = UNSET
    sidecar: Literal["outlives", "follows", "none"] | UnsetType = UNSET


class MirrorFile(Section):
    """mirror.json. Paths are relative to the folder of the file; ~ is the home directory."""

    sources: (
        Annotated[list[Text | SourceEntry], Meta(description="The SQLite files: paths, or objects with more settings.")]
        | UnsetType
    ) = UNSET
    state_dir: (
        Annotated[Text, Meta(description="Where the mirror keeps its own files; the folder mirror beside this file.")]
        | UnsetType
    ) = UNSET
    postgres: PostgresSection | UnsetType = UNSET
    sidecar: (
        Annotated[
            Literal["outlives", "follows", "none"],
            Meta(
                description="A sidecar that a program starts outlives it (the default), follows it to its end, "
                "or is none: nothing is started."
            ),
        ]
        | UnsetType
    ) = UNSET
    columns: (
        Annotated[
            dict[
                str,
                Literal["text", "bytea", "jsonb", "timestamptz", "bigint", "double precision", "boolean", "omit"],
            ],
            Meta(
                description="By table.column, how a column is held: text (what Postgres has no letter for beside it), "
                "bytea (the bytes of its text), jsonb (documents), timestamptz (ISO 8601 or Unix times), bigint, "
                "double precision or boolean; or omit (not mirrored). Not columns of a primary key."
            ),
        ]
        | UnsetType
    ) = UNSET
    tables: (
        Annotated[
            dict[str, Literal["rows"]],
            Meta(
                description="By the name of a virtual table of FTS5 or vec0: rows, to mirror the data that it holds, "
                "which are left out otherwise."
            ),
        ]
        | UnsetType
    ) = UNSET
    cutover: CutoverSection | UnsetType = UNSET
    http: (
        Annotated[
            Text,
            Meta(
                description="Where `mirror up` serves its status page, metrics and health: a port of this machine "
                "alone, or HOST:PORT. There is no login. Nothing is served without it."
            ),
        ]
        | UnsetType
    ) = UNSET
    log: LogSection | UnsetType = UNSET
    alerts: AlertsSection | UnsetType = UNSET
    changes: (
        Annotated[ChangesSection, Meta(description="Switches the change feed on, also if it is empty.")] | UnsetType
    ) = UNSET
    storage: StorageSection | UnsetType = UNSET
    dialect: Annotated[str, Meta(description="For editors: the schema of this file.")] | UnsetType = msgspec.field(
        name="$schema", default=UNSET
    )
