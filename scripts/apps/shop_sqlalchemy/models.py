"""The shop's tables: each type that is another one in each of the two stores."""

import enum
import json
import os
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from sqlalchemy import (
    JSON, BigInteger, CheckConstraint, Column, Computed, DateTime, Enum, ForeignKey, Integer, Interval, LargeBinary,
    Numeric, String, Table, Text, UniqueConstraint, Uuid, create_engine, event,
)  # fmt: skip
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

POSTGRES = os.environ.get("SHOP_STORE") == "postgres"
#: SQLite numbers rows by itself only in columns that are declared INTEGER.
Number = BigInteger().with_variant(Integer, "sqlite")
Document = JSON().with_variant(JSONB, "postgresql")
Words = JSON().with_variant(ARRAY(Text), "postgresql")


def engine():
    """The engine of the store that the environment names."""
    if POSTGRES:
        at = json.loads(os.environ["SHOP_PG"])
        return create_engine(
            "postgresql+psycopg://",
            connect_args={name: at[name] for name in ("dbname", "user", "host", "port") if name in at},
        )
    made = create_engine("sqlite:///shop.db", connect_args={"timeout": 120})
    event.listen(made, "connect", _set_up)
    event.listen(made, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
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
    name: Mapped[str] = mapped_column(String(40), unique=True)
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("person.id", ondelete="SET NULL"))
    boss: Mapped["Person | None"] = relationship(remote_side=[id], back_populates="staff")
    staff: Mapped[list["Person"]] = relationship(back_populates="boss")
    things: Mapped[list["Thing"]] = relationship(back_populates="owner", cascade="all, delete-orphan")


label_of_thing = Table(
    "label_of_thing",
    Base.metadata,
    Column("thing_id", ForeignKey("thing.id", ondelete="CASCADE"), primary_key=True),
    Column("label_id", ForeignKey("label.id", ondelete="CASCADE"), primary_key=True),
)


class Label(Base):
    """A word on things."""

    __tablename__ = "label"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    word: Mapped[str] = mapped_column(String(20), unique=True)
    things: Mapped[list["Thing"]] = relationship(secondary=label_of_thing, back_populates="labels")


class Thing(Base):
    """Has a column of nearly every type."""

    __tablename__ = "thing"
    __table_args__ = (UniqueConstraint("owner_id", "code"), CheckConstraint("price >= 0", name="price_is_not_negative"))
    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    code: Mapped[str] = mapped_column(String(30))
    color: Mapped[Color] = mapped_column(Enum(Color))
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    exact: Mapped[Decimal | None] = mapped_column(Numeric(30, 15))
    made: Mapped[datetime] = mapped_column(DateTime)
    aware: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    day: Mapped[date | None]
    at: Mapped[time | None]
    takes: Mapped[timedelta | None] = mapped_column(Interval)
    meta: Mapped[object] = mapped_column(JSON)
    document: Mapped[object | None] = mapped_column(Document)
    words: Mapped[list[str] | None] = mapped_column(Words)
    image: Mapped[bytes | None] = mapped_column(LargeBinary)
    ratio: Mapped[float | None]
    active: Mapped[bool]
    other: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    note: Mapped[str | None] = mapped_column(Text)
    twice: Mapped[Decimal | None] = mapped_column(Numeric(14, 2), Computed("price * 2", persisted=True))
    owner: Mapped[Person] = relationship(back_populates="things")
    labels: Mapped[list[Label]] = relationship(secondary=label_of_thing, back_populates="things")


class Visit(Base):
    """Has a key of two columns."""

    __tablename__ = "visit"
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    began: Mapped[datetime] = mapped_column(DateTime)
