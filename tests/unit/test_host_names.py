"""Which names in a request the status page answers to: none that a stranger can have lead here."""

from __future__ import annotations

import pytest

from mirror.sidecar.serve.http import is_safe

ALWAYS = ("localhost", "LOCALHOST:8080", "127.0.0.1", "10.0.0.7:8080", "[::1]:80", "[2001:db8::1]", "localhost.")
STRANGERS = (
    "evil.example",
    "evil.example:8080",
    "",
    ":80",
    "a.local.evil.example",
    "local.",
    "[x",
    "xlocal.example",
    ".",
)
PRIVATE = (
    "mirror",
    "my_service:8080",
    "mirror.monitoring.svc",
    "mirror.monitoring.svc.cluster.local",
    "ip-10.internal",
)


@pytest.mark.parametrize("bound", ["127.0.0.1", "::1", "0.0.0.0", "10.0.0.7", "::"])
def test_addresses_and_this_machine_are_safe_everywhere(bound: str) -> None:
    for host in (*ALWAYS, "given.example:1"):
        assert is_safe(host, "Given.example", bound, "here"), host
    for host in set(STRANGERS) - {"local."}:
        assert not is_safe(host, bound, bound, "here"), host


@pytest.mark.parametrize("bound", ["127.0.0.1", "127.8.0.1", "::1"])
def test_on_the_loopback_no_other_name_is(bound: str) -> None:
    for host in (*PRIVATE, "here", "db1.example.com"):
        assert not is_safe(host, bound, bound, "db1.example.com"), host


@pytest.mark.parametrize("bound", ["0.0.0.0", "10.0.0.7", "::"])
def test_elsewhere_those_of_private_networks_are(bound: str) -> None:
    """A Prometheus that asks by the name of a service."""
    for host in (*PRIVATE, "DB1.example.com:80"):
        assert is_safe(host, bound, bound, "db1.Example.com"), host
    assert not is_safe("db2.example.com", bound, bound, "db1.example.com")
