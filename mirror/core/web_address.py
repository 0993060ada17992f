"""The address of a webhook: what is called, and what of it may be shown. Its path and query may be its secret."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from mirror.core.errors import ConfigError


class WebAddress(NamedTuple):
    """Of a webhook."""

    secure: bool
    """https."""
    host: str
    port: int
    path: str
    """With its query; a secret."""

    @property
    def place(self) -> str:
        """What may be shown: all but the path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.secure else 80
        return f"http{'s' * self.secure}://{host}" + ("" if self.port == usual else f":{self.port}")

    @property
    def shown(self) -> str:
        """The same for a list of settings: that there is more."""
        return f"{self.place}/…"

    def __repr__(self) -> str:
        return self.shown


def web_address(text: str, key: str) -> WebAddress:
    """An address from the configuration, where it has this key. Raises ``ConfigError``, which does not repeat it."""
    step = "give one as https://example.org/path; what proves who calls is a signature"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigError("read the configuration", key, "no web address", next_step=step) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("read the configuration", key, "no address with http:// or https://", next_step=step)
    if parts.username is not None:
        raise ConfigError("read the configuration", key, "it has a user or password", next_step=step)
    if not text.isascii() or any(letter <= " " for letter in text):
        raise ConfigError("read the configuration", key, "it has characters that need %-encoding", next_step=step)
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return WebAddress(secure, parts.hostname, port or (443 if secure else 80), path)
