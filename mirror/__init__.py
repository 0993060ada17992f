"""Keep a Postgres database equal to a live SQLite file, without touching the program that writes it."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for: finding it takes longer than most imports."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mirror")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0.0.0"
