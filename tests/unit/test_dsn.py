"""Passwords in connection strings are found and hidden, as libpq understands them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mirror.core.dsn import has_password, hide_password, without_password


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "host=/run dbname=x",
        "host = /run  dbname = 'my db'",
        "dbname=x user=o\\'brien",
        "password='' host=h",
        "passfile=/home/u/.pgpass sslkey=/k",
        "postgres://h/d",
        "postgresql://u@h:5432,h2:5433/d?sslmode=require",
        "postgresql:///d?host=/run&application_name=a@b",
        "postgres://u:@h/d",
    ],
)
def test_without_a_password_nothing_changes(dsn: str) -> None:
    assert hide_password(dsn) == dsn and not has_password(dsn)


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("host=h password=secret dbname=d", "host=h password=hidden dbname=d"),
        ("password = 'my secret' host=h", "password=hidden host=h"),
        ("host=h PASSWORD='sec\\'ret'", "host=h PASSWORD=hidden"),
        ("host=h sslpassword=secret", "host=h sslpassword=hidden"),
        ("postgres://u:secret@h/d", "postgres://u:hidden@h/d"),
        ("postgresql://u:sec/re@t@h/d", "postgresql://u:hidden@h/d"),
        ("postgresql://u:secr?et@h/d", "postgresql://u:hidden@h/d"),
        ("postgresql://:secret@h", "postgresql://:hidden@h"),
        ("postgres://h/d?user=u&password=sec@ret&sslmode=require", "postgres://h/d?user=u&password=hidden&sslmode=require"),
        ("postgres://h/d?p%61ssword=secret", "postgres://h/d?p%61ssword=hidden"),
        ("host=h password='never closed", "(hidden: not a connection string)"),
        ("mysql://u:secret@h/d", "(hidden: not a connection string)"),
        ("u:secret@h", "(hidden: not a connection string)"),
    ],
)  # fmt: skip
def test_a_password_is_hidden(dsn: str, shown: str) -> None:
    assert hide_password(dsn) == shown and has_password(dsn)


_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(_TEXT, _TEXT)
def test_of_any_password_nothing_is_left(user: str, password: str) -> None:
    dsn = make_conninfo(user=user, host="h", password=password)
    assert has_password(dsn)
    assert conninfo_to_dict(hide_password(dsn)) == {"user": user, "host": "h", "password": "hidden"}
    assert not has_password(make_conninfo(user=user, host="h"))


@pytest.mark.parametrize(
    ("dsn", "left"),
    [
        ("host=h password=secret user=u", "host=h user=u"),
        ("postgresql://u:secret@h/d", "postgresql://u@h/d"),
        ("postgresql://u@h/d?password=secret", "postgresql://u@h/d"),
        ("postgresql://u@h/d?sslmode=require&password=secret", "postgresql://u@h/d?sslmode=require"),
        ("host=h", "host=h"),
        ("who knows", ""),
    ],
)
def test_a_connection_string_without_its_password_is_one(dsn: str, left: str) -> None:
    """It goes into next steps: pasted, it leads to the same server."""
    assert without_password(dsn) == left
    if left:
        assert "password" not in conninfo_to_dict(left)
