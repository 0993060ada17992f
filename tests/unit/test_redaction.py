"""No form of a connection string, header or variable shows its secret, and no piece of a known one is left."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from mirror.core import redaction
from mirror.core.dsn import passwords_in
from mirror.core.errors import MirrorError, SinkError
from mirror.core.redaction import redacted, remember_dsn, remember_secret
from mirror.hot.connection import Address
from mirror.postgres.sessions import connect


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_secrets", {})
    monkeypatch.setattr(redaction, "_stamp", stamp := object())
    monkeypatch.setattr(redaction, "_compiled", (stamp, None))
    monkeypatch.setattr(redaction, "_of_variables", ())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at postgresql://u:s3cr3t@h:5432/d: refused", "at postgresql://u:hidden@h:5432/d: refused"),
        ("postgres://u:sec/re@t@h/d", "postgres://u:hidden@h/d"),
        ("see /home/x/postgresql:/u:s3cr3t@h/d: no such file", "see /home/x/postgresql:/u:hidden@h/d: no such file"),
        ("'postgresql://h/d?user=u&p%61ssword=s3cr3t'", "'postgresql://h/d?user=u&p%61ssword=hidden"),
        ("redis://:s3cr3t@127.0.0.1:6380/0", "redis://:hidden@127.0.0.1:6380/0"),
        ("rediss://me:s3cr3t@h", "rediss://me:hidden@h"),
        ("POST https://x.example/hook?token=s3cr3t&a=1", "POST https://x.example/hook?token=hidden&a=1"),
        ("host=h password=s3cr3t dbname=d", "host=h password=hidden dbname=d"),
        ("host=h password='s3 cr\\'3t' dbname=d", "host=h password=hidden dbname=d"),
        ("PGPASSWORD=s3cr3t MIRROR_REDIS_PASSWORD='s3 cr3t'", "PGPASSWORD=hidden MIRROR_REDIS_PASSWORD=hidden"),
        ('{"password": "s3\\"cr3t", "port": 1}', '{"password": "hidden", "port": 1}'),
        ("{'webhook_secret': 's3cr3t'}", "{'webhook_secret': 'hidden'}"),
        ("ALTER ROLE a PASSWORD 's3''cr3t' LOGIN", "ALTER ROLE a PASSWORD 'hidden' LOGIN"),
        ("Authorization: Bearer s3cr3t.x-y", "Authorization: Bearer hidden"),
        ("authorization=s3cr3t", "authorization=hidden"),
        ("write password='s3 cr3t'; it starts again", "write password=hidden; it starts again"),
        ("(password='s3cr3t')", "(password=hidden)"),
        ("at postgres://u@h/d?pasword=s3cr3t: refused", "at postgres://u@h/d?pasword=hidden refused"),
    ],
)
def test_a_secret_is_found_by_its_form(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        'write {"columns": {"users.password": "omit"}} into mirror.json',
        "UPDATE customers SET password = replace(password, char(0), '') WHERE id = 10",
        'password authentication failed for user "u"',
        "check user, password and pg_hba.conf",
        "mirror up memory.db --postgres postgresql://u@h:5432/d?sslmode=require",
        "http://127.0.0.1:8080/metrics",
        "key=12 of memory.db: a row",
        "file:///home/u/memory.db?mode=ro",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


_PASSWORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=3, max_size=14)


@given(_PASSWORD)
def test_of_a_known_value_nothing_is_left_however_it_is_written(value: str) -> None:
    assume(value.strip() == value and not value.isalpha() and not set(value) <= set("hidden-_.%\\'\" "))
    remember_secret(value)
    for form in (value, quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1], " ".join(value.split())):
        assume(len(form) >= 3)
        for before, after in ((" ", " "), ("'", "'"), ("(", "):"), ("\n", "\n")):
            shown = redacted(f"x{before}{form}{after}y")
            assert shown == f"x{before}hidden{after}y", (form, shown)


@given(_PASSWORD, st.sampled_from(["u", "app"]))
def test_each_password_of_a_connection_string_is_known(password: str, user: str) -> None:
    assume(password not in (user, "h", "d"))
    assert password in passwords_in(make_conninfo(user=user, host="h", password=password, dbname="d"))
    assert password in passwords_in(f"postgresql://{user}:{quote(password, safe='')}@h:5432/d")
    assert password in passwords_in(f"postgresql://{user}@h/d?password={quote(password, safe='')}")


def test_what_is_public_is_no_password() -> None:
    assert passwords_in("postgresql://postgres:postgres@h/d") == set()
    assert passwords_in("host=h user=app password=app dbname=d") == set()
    assert passwords_in("postgres://h:5432/d?application_name=a@b") == set()


@pytest.mark.parametrize("dsn", ["host=h user=u password=mirror", "postgres://u:file@h/d", "from the environment"])
def test_an_ordinary_word_as_a_password_does_not_garble_our_texts(dsn: str) -> None:
    """Which would tell it."""
    remember_dsn(dsn)
    text = "no such file in the environment: start it with `mirror up`"
    assert redacted(text) == text
    assert redacted("password=mirror postgres://u:file@h") == "password=hidden postgres://u:hidden@h"
    remember_secret("correcthorsebattery")
    assert redacted("xcorrecthorsebatteryx") == "xhiddenx"


#: As people write them: what is no connection string for libpq, or another one than was meant.
WRONG = [
    "postgresql://u:s3cr3t@w0rd@127.0.0.1:1/d",
    "postgresql://u:s3cr3t/w0rd@127.0.0.1:1/d",
    "postgresql://u:s3cr3t%zz@127.0.0.1:1/d",
    "postgresql://u:w0rd@127.0.0.1:1/d?password=s3cr3t&passwort=x",
    "postgresql://127.0.0.1:1/d?password=s3cr3t%",
    "host=127.0.0.1 port=1 password=s3cr3t w0rd",
    "host=127.0.0.1 port=1 password='s3cr3t w0rd",
    "host=127.0.0.1 port=1 password=s3cr3t horse",
    "host=127.0.0.1 port=1 passwort=s3cr3t",
    "host=127.0.0.1 port=1 pasword=s3cr3t horse=w0rd",
    "host=127.0.0.1 port=1 password=s3cr3t horse=w0rd",
    "host=127.0.0.1 port=1 password=s3cr3t w0rd=horse",
    "postgresql://u@127.0.0.1:1/d?passwd=s3cr3t&horse=w0rd",
    "postgresql://u:w0rd?horse=s3cr3t@127.0.0.1:1/d?nothing=x",
    "mysql://u:s3cr3t@127.0.0.1:1/d",
    "u:s3cr3t@127.0.0.1:1/d",
]


@pytest.mark.parametrize("dsn", WRONG)
def test_errors_of_the_driver_show_no_piece_of_a_password(dsn: str) -> None:
    with pytest.raises(MirrorError) as caught:
        connect(dsn)
    error = caught.value
    shown = [str(error), repr(error), json.dumps(error.to_dict()), error.detail]
    if error.__cause__ is not None:
        shown.append(redacted(str(error.__cause__)))
    assert error.__cause__ is not None or error.__suppress_context__
    for text in shown:
        assert "s3cr3t" not in text and "w0rd" not in text and "horse" not in text, text


LIKE = "correct it in the connection string (did you mean {}?)"


@pytest.mark.parametrize(
    ("dsn", "why", "step"),
    [
        ("host=h pasword=hunter22x9 user=me", "it does not know the keyword pasword", LIKE.format("password")),
        ("postgres://u@h/d?pasword=hunter22x9", "it does not know the keyword pasword", LIKE.format("password")),
        ("hots=h sslmod=require", "it does not know the keyword hots", LIKE.format("host")),
        ("hots='h' sslmod=x", "it does not know the keywords hots, sslmod", LIKE.format("host, sslmode")),
        ("zzz=hunter22x9", "it does not know the keyword zzz", "correct it in the connection string, or leave it out"),
        ("password=hunter22x9 zzz=1", "", "in a URI write @, / and % in a password"),
        ("host=h password='hunter22x9", "", "in a URI write @, / and % in a password"),
    ],
)
def test_why_a_connection_string_cannot_be_read(dsn: str, why: str, step: str) -> None:
    """And what to do, which is not taken for a secret itself."""
    with pytest.raises(SinkError) as caught:
        connect(dsn)
    error = caught.value
    assert error.detail == "libpq cannot read the connection string" + (f": {why}" if why else "")
    assert error.next_step.startswith(step) and not error.retryable
    assert str(error) == f"connect to Postgres: {error.detail} -- {error.next_step}"
    assert redacted(f"{error}; then again") == f"{error}; then again" and "hunter22x9" not in repr(error)


def test_an_error_shows_no_secret_and_keeps_what_it_is_about() -> None:
    remember_secret("hunter22")
    error = SinkError("connect", "/data/hunter22.db", "it said hunter22", next_step="psql postgres://u:pw@h/d")
    assert error.place == "/data/hunter22.db"
    for shown in (str(error), repr(error), json.dumps(error.to_dict())):
        assert "hunter22" not in shown and ":pw@" not in shown
    back = MirrorError.from_dict(error.to_dict())
    assert str(back) == str(error) and type(back) is SinkError


def test_variables_are_known_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter22")
    monkeypatch.setenv("MIRROR_SECRET_KEY", "0a1b2c3d4e, 5f6a7b8c9d")
    assert redacted("hunter22 0a1b2c3d4e 5f6a7b8c9d") == "hidden hidden hidden"
    monkeypatch.setenv("MIRROR_REDIS_PASSWORD", "later-on")
    assert redacted("xlater-onx") == "xhiddenx"
    monkeypatch.delenv("PGPASSWORD")
    assert redacted("hunter22") == "hidden", "it is in use still"


def test_redis_passwords_are_known() -> None:
    Address(password="of-redis-1")
    assert redacted("AUTH of-redis-1") == "AUTH hidden"


def test_only_so_many_are_known() -> None:
    """A password that is made anew each quarter of an hour does not slow down what is logged."""
    for number in range(3 * redaction._MOST):
        remember_secret(f"password-{number:05}")
    assert len(redaction._secrets) == redaction._MOST
    assert redacted(f"password-{3 * redaction._MOST - 1:05}") == "hidden"


def test_long_texts_take_no_longer_than_they_are() -> None:
    """Each of these took minutes with an expression that begins anew at every character."""
    remember_secret("hunter22")
    for text in ("a" * 300_000, "a.b-" * 80_000, "password='" * 30_000, '"' * 300_000 + "password", "a:/" * 100_000):
        redacted(text)
