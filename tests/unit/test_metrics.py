"""/metrics, as Prometheus reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from mirror.core.status import (
    AlertsReport,
    AroundReport,
    GapReport,
    Phase,
    ProofReport,
    ReadCount,
    RedisReport,
    ReverseReport,
    StatusReport,
)
from mirror.sidecar.serve.metrics import Watched, text_of

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str, *, openly: bool = False) -> Samples:
    found: Samples = {}
    for family in (open_families if openly else families)(text):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def watched(folder: Path, **given: Any) -> Watched:
    values = {"source": str(folder / 'a "quoted"\\name\n.db'), "schema": "public", "phase": Phase.FOLLOWING, **given}
    return Watched(StatusReport(**values), folder)


def of(*all_of: Watched, accept: str = "") -> Samples:
    kind, body = text_of(lambda: all_of, accept)
    return samples(body.decode(), openly="openmetrics" in kind)


def test_figures(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "1").write_bytes(b"x" * 10)
    (tmp_path / "spool" / "2").write_bytes(b"x" * 7)
    one = watched(
        tmp_path,
        lag_seconds=0.25,
        commits=7,
        rows=9,
        gaps=[GapReport(generation=1, reason="r", at="")],
        parity=ProofReport(proof="verified", age_seconds=3.0),
        reverse=ReverseReport(rows=2, strays=4),
        error={"code": "postgres"},
    )
    Path(one.report.source).write_bytes(b"x" * 5)
    Path(f"{one.report.source}-wal").write_bytes(b"x" * 3)
    for accept in "", "application/openmetrics-text; version=1.0.0":
        found = of(one, accept=accept)
        label = ("source", one.report.source)

        def value(name: str, *others: tuple[str, str], found: Samples = found) -> float:
            return found[name, tuple(sorted([("source", one.report.source), *others]))]

        assert value("mirror_lag_seconds") == 0.25
        assert (value("mirror_commits_total"), value("mirror_rows_total"), value("mirror_gaps")) == (7, 9, 1)
        assert (value("mirror_source_bytes"), value("mirror_wal_bytes"), value("mirror_spool_bytes")) == (5, 3, 17)
        assert (value("mirror_reverse_rows_total"), value("mirror_strays")) == (2, 4)
        assert (value("mirror_disk_free_bytes") > 0, value("mirror_disk_full")) == (True, 0)
        assert value("mirror_phase", ("mirror_phase", "following")) == 1
        assert value("mirror_phase", ("mirror_phase", "failed")) == 0
        assert value("mirror_parity", ("mirror_parity", "verified")) == 1
        assert value("mirror_error", ("code", "postgres")) == 1
        assert label in dict.fromkeys(label for _, labels in found for label in labels)


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    found = of(watched(tmp_path))
    names = {name for name, _ in found}
    unknown = {"mirror_lag_seconds", "mirror_freshness_seconds", "mirror_wal_bytes", "mirror_source_bytes"}
    unknown |= {"mirror_strays", "mirror_parity_age_seconds", "mirror_error", "mirror_spool_bytes"}
    assert not names & unknown and {"mirror_commits_total", "mirror_info"} <= names


def test_many_sources_and_none(tmp_path: Path) -> None:
    two = [watched(tmp_path, source=f"/s/{name}.db", commits=number) for number, name in enumerate("ab")]
    found = of(*two)
    assert [found["mirror_commits_total", (("source", f"/s/{name}.db"),)] for name in "ab"] == [0, 1]
    assert "mirror_info" in {name for name, _ in of()}


def test_names_follow_the_rules(tmp_path: Path) -> None:
    """Base units, and _total for what only grows; each with a help text."""
    _, body = text_of(lambda: [watched(tmp_path)], "")
    for family in families(body.decode()):
        if family.name.startswith("mirror"):
            assert family.documentation.endswith("."), family
            assert not family.name.endswith(("_ms", "_kb", "_count")), family
            assert family.type != "unknown"


def test_what_is_around(tmp_path: Path) -> None:
    """Redis that was not asked yet, or is away, has no figures."""

    def of_redis(**given: Any) -> Samples:
        around = AroundReport(
            redis=RedisReport(place="redis h:1/0", **given), alerts=AlertsReport(place="p", delivered=2)
        )
        return samples(text_of(lambda: [watched(tmp_path)], "", around, lambda: ["a.db"])[1].decode())

    found = of_redis(seen_at=1.0, ping_seconds=0.25, server="Valkey 9", policy="noeviction", used_bytes=7, max_bytes=0)
    assert found["mirror_redis_up", ()] == 1 and found["mirror_redis_ping_seconds", ()] == 0.25
    assert found["mirror_redis_memory_used_bytes", ()] == 7 and ("mirror_redis_memory_max_bytes", ()) not in found
    assert found["mirror_alerts_delivered_total", ()] == 2 and found["mirror_stalled_loops", ()] == 1
    away = of_redis(seen_at=1.0, error="refused")
    assert away["mirror_redis_up", ()] == 0
    assert {name for name, _ in away if name.startswith("mirror_redis")} == {"mirror_redis_up"}
    assert not any(name.startswith("mirror_redis") for name, _ in of_redis())
    assert not any(name.startswith(("mirror_redis", "mirror_alerts")) for name, _ in of(watched(tmp_path)))


def test_reads(tmp_path: Path) -> None:
    one = watched(tmp_path, reads=[ReadCount(store="sqlite", reason="behind", count=3)])
    label = ("from", "sqlite"), ("reason", "behind"), ("source", one.report.source)
    assert of(one)["mirror_reads_total", label] == 3
