"""The shop's tables: each type that is another one in each of the two stores."""

import enum
import json
import os
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

POSTGRES = os.environ.get("SHOP_STORE") == "postgres"
#: SQLite numbers rows by itself only in columns that are declared INTEGER.
Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
Document = sa.JSON().with_variant(JSONB, "postgresql")
Words = sa.JSON().with_variant(ARRAY(sa.Text), "postgresql")


def engine():
    """The engine of the store that the environment names."""
    if POSTGRES:
        at = json.loads(os.environ["SHOP_PG"])
        return sa.create_engine(
            "postgresql+psycopg://",
            connect_args={name: at[name] for name in ("dbname", "user", "host", "port") if name in at},
        )
    made = sa.create_engine("sqlite:///shop.db", connect_args={"timeout": 120})
    sa.event.listen(made, "connect", _set_up)
    sa.event.listen(made, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return made


def _set_up(connection, _record):
    connection.isolation_level = None  # the driver's own BEGIN comes too late
    connection.execute("PRAGMA journal_mode=WAL")


class Base(DeclarativeBase):
    """All tables."""


class Color(enum.Enum):
    """Is a type of its own in Postgres."""

    RED = "r"
    BLUE = "it's blue"


class Person(Base):
    """People, who have bosses."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(40), unique=True)
    boss_id: Mapped[int | None] = mapped_column(sa.ForeignKey("person.id", ondelete="SET NULL"))
    boss: Mapped["Person | None"] = relationship(remote_side="Person.id", back_populates="staff")
    staff: Mapped[list["Person"]] = relationship(back_populates="boss")
    things: Mapped[list["Thing"]] = relationship(back_populates="owner", cascade="all, delete-orphan")


label_of_thing = sa.Table(
    "label_of_thing",
    Base.metadata,
    sa.Column("thing_id", sa.ForeignKey("thing.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("label_id", sa.ForeignKey("label.id", ondelete="CASCADE"), primary_key=True),
)


class Label(Base):
    """A word on things."""

    __tablename__ = "label"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    word: Mapped[str] = mapped_column(sa.String(20), unique=True)
    things: Mapped[list["Thing"]] = relationship(secondary=label_of_thing, back_populates="labels")


class Thing(Base):
    """Has a column of nearly every type."""

    __tablename__ = "thing"
    __table_args__ = (
        sa.UniqueConstraint("owner_id", "code"),
        sa.CheckConstraint("price >= 0", name="price_is_not_negative"),
    )
    id: Mapped[uuid.UUID] = mapped_column(sa.Uuid, primary_key=True)
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"))
    code: Mapped[str] = mapped_column(sa.String(30))
    color: Mapped[Color] = mapped_column(sa.Enum(Color))
    price: Mapped[Decimal] = mapped_column(sa.Numeric(12, 2))
    exact: Mapped[Decimal | None] = mapped_column(sa.Numeric(30, 15))
    made: Mapped[datetime] = mapped_column(sa.DateTime)
    aware: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    day: Mapped[date | None]
    at: Mapped[time | None]
    takes: Mapped[timedelta | None] = mapped_column(sa.Interval)
    meta: Mapped[object] = mapped_column(sa.JSON)
    document: Mapped[object | None] = mapped_column(Document)
    words: Mapped[list[str] | None] = mapped_column(Words)
    image: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    ratio: Mapped[float | None]
    active: Mapped[bool]
    other: Mapped[uuid.UUID | None] = mapped_column(sa.Uuid)
    note: Mapped[str | None] = mapped_column(sa.Text)
    twice: Mapped[Decimal | None] = mapped_column(sa.Numeric(14, 2), sa.Computed("price * 2", persisted=True))
    owner: Mapped[Person] = relationship(back_populates="things")
    labels: Mapped[list[Label]] = relationship(secondary=label_of_thing, back_populates="things")


class Visit(Base):
    """Has a key of two columns."""

    __tablename__ = "visit"
    person_id: Mapped[int] = mapped_column(sa.ForeignKey("person.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    began: Mapped[datetime] = mapped_column(sa.DateTime)
