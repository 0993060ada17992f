"""The alert rules and the dashboard ask only for metrics that there are, with labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mirror.core.status import (
    AlertsReport,
    AroundReport,
    ProofReport,
    ReadCount,
    RedisReport,
    ReverseReport,
    ShadowCount,
    StatusReport,
)
from mirror.sidecar.serve.metrics import Watched, text_of

FOLDER = Path(__file__).parents[2] / "scripts" / "monitoring"
#: What Prometheus adds itself.
_OF_PROMETHEUS = {"instance", "job"}


def expressions() -> list[str]:
    rules = re.findall(r"^ +expr: (.+)$", (FOLDER / "alerts.yml").read_text(), re.MULTILINE)
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return rules + [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.fixture(scope="module")
def shown() -> dict[str, set[str]]:
    """The labels of each sample that /metrics can show."""
    full: dict[str, Any] = {
        "lag_seconds": 1.0, "worst_lag_seconds": 1.0, "freshness_seconds": 1.0, "committed_at": 1.0,
        "parity": ProofReport(proof="verified", age_seconds=1.0), "reverse": ReverseReport(), "error": {"code": "x"},
        "reads": [ReadCount(store="postgres", reason="fresh", count=1)],
        "shadow_reads": [ShadowCount(result="equal", count=1)],
    }  # fmt: skip
    around = AroundReport(
        redis=RedisReport(
            place="p", seen_at=1.0, ping_seconds=1.0, server="s", used_bytes=1, max_bytes=1, append_only=True,
            clients=1, agents=1,
        ),
        alerts=AlertsReport(place="p"),
    )  # fmt: skip
    folder = Path(__file__).parent
    watched = Watched(StatusReport(source=str(Path(__file__)), schema="public", **full), folder)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text_of(lambda: [watched], "", around)[1].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    # Of files that are not here.
    return found | {name: {"source"} for name in ("mirror_wal_bytes", "mirror_spool_bytes")}


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_asks_for_what_there_is(expression: str, shown: dict[str, set[str]]) -> None:
    assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count("}")
    names = re.findall(r"\b((?:mirror|process)_[a-z_]+)\b(?=[{\s)\[]|$)(?!=)", expression)
    names += re.findall(r"\bup\b", expression)
    assert names, expression
    for name in set(names) - {"up"} - set(re.findall(r"([a-z_]+)=[~\"]", expression)):
        assert name in shown, name
        for labels in re.findall(re.escape(name) + r"\{([^}]*)\}", expression):
            assert {label.strip() for label in re.findall(r"([a-z_]+)=", labels)} <= shown[name] | _OF_PROMETHEUS, name


def test_each_alert_says_what_it_is_about() -> None:
    text = (FOLDER / "alerts.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)\n(.+?)(?=\n      - alert|\Z)", text, re.DOTALL)
    assert len(alerts) >= 10 and len({name for name, _ in alerts}) == len(alerts)
    for name, body in alerts:
        assert re.search(r"severity: (warning|critical)", body) and "summary: " in body, name


def test_panels_do_not_overlap() -> None:
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for place in (panel["gridPos"],)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_what_an_operator_is_promised_is_there_and_watched(shown: dict[str, set[str]]) -> None:
    """Lag and freshness apart, reads by source and reason, rejects, disk full, WAL bytes, Redis, alerts."""
    reads = {"source", "from", "reason"}
    assert shown["mirror_reads_total"] == reads and shown["mirror_shadow_reads_total"] == {"source", "result", "reason"}
    alerts = (FOLDER / "alerts.yml").read_text()
    for name in (
        "mirror_lag_seconds", "mirror_rejects", "mirror_disk_full", "mirror_wal_bytes", "mirror_reads_total",
        "mirror_read_differences", "mirror_redis_up", "mirror_redis_write_error", "mirror_redis_memory_used_bytes",
        "mirror_stalled_loops", "mirror_alerts_untold", "mirror_parity_age_seconds", "mirror_error",
    ):  # fmt: skip
        assert name in shown and re.search(rf"\b{name}\b", alerts), name
    for name in ("mirror_freshness_seconds", "mirror_redis_ping_seconds", "mirror_redis_agents", "mirror_spool_bytes"):
        assert name in shown, name
