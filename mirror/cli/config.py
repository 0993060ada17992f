"""``mirror config``: the settings that apply, and where each comes from."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import Any

import click

from mirror.cli.groups import Commands
from mirror.cli.options import common, help_end, json_option
from mirror.core.config.change_options import ChangeOptions
from mirror.core.config.settings import DEFAULT_SCHEMA, Settings, SourceSettings
from mirror.core.dsn import hide_password
from mirror.core.errors import StateError
from mirror.core.folders import known_sources, source_folder
from mirror.core.source_settings import remembered_schema


@click.group(
    cls=Commands,
    short_help="Show settings and where they come from.",
    epilog=help_end("mirror config show", "mirror config schema"),
)
def config() -> None:
    """Show the settings and where they come from."""


@config.command(
    short_help="Print each setting and where it comes from.",
    epilog=help_end(
        "mirror config show",
        "mirror config show --json",
        codes={0: "the settings were printed", 2: "a file cannot be used: one line on stderr says why"},
    ),
)
@common
@json_option
def show(settings: Settings, debug: bool, as_json: bool) -> None:
    """Print every setting that applies now, and where it comes from. Passwords are hidden.

    A flag comes before an environment variable, then mirror.json, then argent.json, then what the state directory
    remembers of the last `mirror up`, then the default.
    """
    report = report_of(settings)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _render(report, shutil.get_terminal_size().columns)


@config.command(
    short_help="Print the JSON schema of mirror.json.",
    epilog=help_end("mirror config schema", codes={0: "the schema was printed"}),
)
def schema() -> None:
    """Print the JSON schema of mirror.json, for editors."""
    from mirror.core.config.mirror_json import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def report_of(settings: Settings) -> dict[str, Any]:
    """The settings as JSON values: each with ``value`` and ``origin``, by the key that it has in mirror.json."""
    storage, alerts = settings.storage, settings.alerts
    host, port = storage.redis or (None, None)
    values = {
        "postgres.connectionString": settings.dsn and hide_password(settings.dsn),
        "stateDir": str(settings.state_dir),
        "schema": settings.schema or "each source's own",
        "columns": dict(settings.columns),
        "tables": dict(settings.tables),
        "cutover.sequences": {name: list(columns) for name, columns in settings.sequences.items()},
        "http": settings.http,
        "log.format": settings.log.format,
        "log.level": settings.log.level,
        "alerts.webhook": alerts.webhook and alerts.webhook.shown,
        "alerts.holdSeconds": alerts.hold_seconds,
        "alerts.lagSeconds": alerts.lag_seconds,
        "alerts.rejects": alerts.rejects,
        "alerts.parityHours": alerts.parity_hours,
        "alerts.freeBytes": alerts.free_bytes,
        **{f"changes.{key}": value for key, value in (settings.changes or ChangeOptions()).values()},
        "sidecar": settings.sidecar,
        "storage.backend": storage.backend,
        "storage.readFrom": storage.read_from,
        "storage.writeTo": list(storage.write_to),
        "storage.postgres.connectionString": storage.dsn and hide_password(storage.dsn),
        "storage.postgres.maxConnections": storage.max_connections,
        "storage.redis.host": host,
        "storage.redis.port": port,
        "storage.redis.db": storage.redis_db,
        "storage.reads.maxWaitMs": storage.reads.max_wait_ms,
        "storage.reads.neverWait": storage.reads.never_wait,
        "storage.reads.alwaysSqlite": storage.reads.always_sqlite,
        "storage.reads.shadowPercent": storage.reads.shadow_percent,
    }
    sources = settings.sources or tuple(known_sources(settings.state_dir))
    entries = {entry.path: entry for entry in settings.configured}
    return {
        "version": 1,
        "files": [{"name": file.name, "path": str(file.path), "exists": file.exists} for file in settings.files],
        "settings": {key: _valued(value, settings.origins[key]) for key, value in values.items()},
        "sources": [_source(settings, entries.get(path, SourceSettings(path))) for path in sources],
        "sources_origin": settings.origins["sources"],
        "notes": [
            {
                "path": note.path,
                "detail": note.detail,
                "next_step": note.next_step,
                "content": json.loads(note.content) if note.content else None,
            }
            for note in settings.notes
        ],
    }


def _valued(value: Any, origin: str) -> dict[str, Any]:
    return {"value": value, "origin": origin}


def _source(settings: Settings, entry: SourceSettings) -> dict[str, Any]:
    """The settings of one source."""

    def own(value: str | None, key: str, default: str | None, origin: str = "default") -> dict[str, Any]:
        return _valued(default, origin) if value is None else _valued(value, f"{entry.origin}.{key}")

    folder = source_folder(settings.state_dir, entry.path)
    if settings.schema is not None:
        schema = _valued(settings.schema, "--schema")
    elif entry.schema is not None:
        schema = own(entry.schema, "schema", None)
    else:
        try:
            remembered = remembered_schema(folder)
            schema = _valued(remembered or DEFAULT_SCHEMA, "remembered" if remembered else "default")
        except StateError as error:  # the other settings, and those of other sources, are known
            schema = _valued(None, f"not known: {error}")
    return {
        "path": str(entry.path),
        "agent": own(entry.agent, "agent", None, "default: argent, if it is a MemuStore"),
        "schema": schema,
        "profile": own(entry.profile, "profile", "auto"),
        "state_dir": str(folder),
    }


def _render(report: dict[str, Any], width: int) -> None:
    """Print the report. Lines are never cut, so that a path or a connection string can be copied."""
    click.secho("files", bold=True)
    for file in report["files"]:
        click.echo(f"  {file['path']}{'' if file['exists'] else ' (no such file)'}")
    click.secho("settings", bold=True)
    for key, found in report["settings"].items():
        _line("  ", key, found, width)
    click.secho(f"sources ({report['sources_origin']})", bold=True)
    for source in report["sources"]:
        click.echo(f"  {source['path']}")
        for key in ("agent", "schema", "profile"):
            _line("    ", key, source[key], width)
        click.echo(f"    state folder: {source['state_dir']}")
    if not report["sources"]:
        click.echo("  no source: name a SQLite file, or list it under sources in mirror.json")
    if report["notes"]:
        click.secho("to be changed", bold=True)
    for note in report["notes"]:
        for text in (f"{note['path']}: {note['detail']}", f"next: {note['next_step']}"):
            click.echo(
                textwrap.fill(
                    text,
                    width,
                    initial_indent="  ",
                    subsequent_indent="    ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
        if note["content"] is not None:
            click.echo(json.dumps(note["content"], indent=2, ensure_ascii=False))


def _line(indent: str, key: str, found: dict[str, Any], width: int) -> None:
    value, origin = found["value"], found["origin"]
    if isinstance(value, bool):
        value = json.dumps(value)
    shown = "none" if value is None else ", ".join(value) if isinstance(value, list) else value
    line = f"{indent}{key}: {shown}"
    if len(line) + len(origin) + 4 <= width:
        click.echo(f"{line}  ({origin})")
    else:
        click.echo(f"{line}\n{indent}    ({origin})")
