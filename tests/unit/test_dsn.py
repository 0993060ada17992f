"""Passwords in connection strings are found and hidden, as libpq understands them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from mirror.core.dsn import has_password, hide_password, keywords_in, without_password


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
        "postgres://u@h/d?ssl=true",
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
        ("host=h pasword=secret user=me", "host=h pasword=hidden user=me"),
        ("passwd='my secret' host=h", "passwd=hidden host=h"),
        ("HOST=h", "HOST=hidden"),
        ("host=h password=se cret=x user=me", "host=h password=hidden hidden=hidden user=me"),
        ("host=h pasword=se cret=x", "host=h pasword=hidden hidden=hidden"),
        ("host=h password='x' sslmod=require", "host=h password=hidden sslmod=hidden"),
        ("mysql://u:secret@h/d?sslmode=require", "(hidden: not a connection string)"),
        ("u:s3cret@h:1/d?x=1", "(hidden: not a connection string)"),
        ("c2VjcmV0Cg==", "(hidden: not a connection string)"),
        ("postgres://u@h/d?pasword=secret&sslmode=require", "postgres://u@h/d?pasword=hidden&sslmode=require"),
        ("postgres://u@h/d?passwd=x", "postgres://u@h/d?passwd=hidden"),
        ("postgres://u@h/d?password=se&cret&user=me", "postgres://u@h/d?password=hidden&hidden&user=me"),
        ("postgres://u@h/d?password=se&cret=x", "postgres://u@h/d?password=hidden&hidden=hidden"),
        ("postgres://u@h/d?ssl=false", "postgres://u@h/d?ssl=hidden"),
        ("postgresql://u:se?cret=x@h/d?sslmode=require", "postgresql://u:hidden@h/d?sslmode=require"),
        ("postgresql://u:se/c?ret=x@h/d", "postgresql://u:hidden?hidden=hidden"),
        ("postgresql://u:123?et=x@h/d", "postgresql://u:hidden?hidden=hidden"),
    ],
)  # fmt: skip
def test_a_password_is_hidden(dsn: str, shown: str) -> None:
    assert hide_password(dsn) == shown and has_password(dsn)
    assert hide_password(shown) == shown or shown.startswith("("), "hidden again, it stays the same"


def test_each_keyword_of_libpq_is_known() -> None:
    """Its value is shown, unless it is a secret."""
    for option in Conninfo.get_defaults():
        keyword = option.keyword.decode()
        secret = keyword.endswith(("password", "_secret", "_key"))
        for dsn in (f"{keyword}=value", f"postgres://h/d?{keyword}=value"):
            assert has_password(dsn) == secret and keywords_in(dsn) == [keyword], dsn


@pytest.mark.parametrize(
    ("dsn", "named"),
    [
        ("host=h pasword=secret user=me", ["host", "pasword", "user"]),
        ("host=h password=se cret=x user=me", ["host", "password", "user"]),
        ("host=h pasword=se cret=x more=y", ["host", "pasword"]),
        ("host=h password='se cret' sslmod=x", ["host", "password", "sslmod"]),
        ("host=h password=se cret", []),
        ("u:secret@h/d?x=1", []),
        ("postgres://u@h/d?passwd=x&sslmod=y", ["passwd"]),
        ("postgres://u:se?cret=x@h/d", []),
        ("postgres://u:se/c?ret=x@h/d", []),
        ("postgres://u@h/d?ssl=true&port=1", ["port"]),
    ],
)
def test_only_what_cannot_be_a_piece_of_a_password_is_named(dsn: str, named: list[str]) -> None:
    assert keywords_in(dsn) == named


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
        ("host=h pasword=secret user=u", "host=h user=u"),
        ("postgresql://u@h/d?passwd=secret", "postgresql://u@h/d"),
        ("host=h", "host=h"),
        ("who knows", ""),
    ],
)
def test_a_connection_string_without_its_password_is_one(dsn: str, left: str) -> None:
    """It goes into next steps: pasted, it leads to the same server."""
    assert without_password(dsn) == left
    if left:
        assert "password" not in conninfo_to_dict(left)
