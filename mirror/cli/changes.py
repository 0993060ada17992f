"""The change feed of ``mirror up``, as mirror.json wishes it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mirror.core.config.change_options import secret_of
from mirror.core.config.settings import Settings

# What it needs is loaded where a feed is configured: it would lie in memory all the time.
if TYPE_CHECKING:
    from mirror.sidecar.changes.hub import Changes, ChangesSettings


def changes_settings(settings: Settings, environment: Mapping[str, str] = os.environ) -> ChangesSettings | None:
    """What is told, and to whom; None: nothing. Raises ``ConfigError``."""
    options = settings.changes
    if options is None:
        return None
    from mirror.sidecar.changes.hub import ChangesSettings
    from mirror.sidecar.changes.to_webhook import Webhook

    webhook = None
    if options.webhook is not None:
        webhook = Webhook(options.webhook, secret_of(environment), frozenset(options.tables))
    redis = None
    if settings.storage.redis is not None:
        from mirror.hot.connection import address_in

        redis = address_in(settings.storage, environment)
    return ChangesSettings(redis, options.keep, options.log, webhook)


@contextmanager
def changes_of(settings: Settings, dsn: str) -> Iterator[Changes | None]:
    """The feeds, which tell until the end of the block; None: there are none. Raises ``ConfigError``."""
    wished = changes_settings(settings)
    if wished is None:
        yield None
        return
    from mirror.sidecar.changes.hub import Changes

    made = Changes(wished, dsn)
    made.start()
    try:
        yield made
    finally:
        made.stop()
