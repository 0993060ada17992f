"""The mirror, and servers made for it, as services that the system's manager keeps running: systemd or launchd.

A :class:`~mirror.cli.service.job.Job` is what is to run; :mod:`~mirror.cli.service.render` makes a manager's file of
it, from the templates in ``scripts/systemd/`` and ``launchd/``; the managers install it, and tell how it is. Files hold
no secrets.
"""
