"""The shop at work: fill, write SEED COUNT, look FILE, use."""

import json
import math
import pickle
import random
import sys
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

from models import POSTGRES, Base, Color, Label, Person, Thing, Visit, engine, label_of_thing
from sqlalchemy import extract, func, insert, null, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session, aliased, selectinload

ENGINE = engine()
#: Of JSON: numbers in all spellings that Python writes, other letters, what looks like something else.
DOCUMENTS = [
    {}, [], {"a": 1, "b": [1.5, None, True], "é": "ü😀", "": "\\ \" \n"}, [1, 2.0, 0.1, -0.5], {"z": 1, "a": 2},
    "text", "2026-01-02", {"big": 12345678901234567890, "deep": {"x": [[], {}, [[1]]]}}, True, {"f": 1e300},
]  # fmt: skip


def moment(draw):
    """A time without an offset; a quarter have no fraction."""
    at = datetime(2026, 1, 1) + timedelta(seconds=draw.randrange(300 * 86400))
    return at + timedelta(microseconds=draw.randrange(1_000_000)) if draw.random() < 0.75 else at


def thing(draw, owner, name):
    """A thing with whatever its columns take."""
    return Thing(
        id=uuid.UUID(int=draw.getrandbits(128), version=4),
        owner=owner,
        code=f"{draw.choice(['é', 'x'])}{name}-{draw.randrange(10**6)}",
        color=draw.choice(list(Color)),
        price=Decimal(draw.randrange(10_000_000)) / 100,
        exact=draw.choice([None, Decimal(draw.randrange(10**12)) / 10**9, Decimal("0.123456789012345")]),
        made=moment(draw),
        aware=draw.choice([None, moment(draw).replace(tzinfo=UTC)]),
        day=draw.choice([None, date(2026, 2, 28), date(1, 1, 1), date(9999, 12, 31)]),
        at=draw.choice([None, time(8, 30), time(23, 59, 59, 999999), time(0, 0)]),
        takes=draw.choice(
            [None, timedelta(0), timedelta(days=-3, microseconds=1), timedelta(days=40000, hours=5, microseconds=7)]
        ),
        meta=draw.choice([*DOCUMENTS, None]),
        document=draw.choice([*DOCUMENTS, None, null()]),
        words=draw.choice([None, null(), [], ["a"], ["b c", 'q"uote', "back\\slash", "{}", "NULL", "", "ü😀", "a,b"]]),
        image=draw.choice([None, b"", b"\0\xff", draw.randbytes(300)]),
        ratio=draw.choice([None, 0.1, -0.0, 1e300, 5e-324, math.inf, draw.random()]),
        active=draw.random() < 0.8,
        other=draw.choice([None, uuid.UUID(int=draw.getrandbits(128))]),
        note=draw.choice([None, "", "line\nline", "ü😀" * 50]),
    )


def fill():
    """What is there before the mirror comes."""
    draw = random.Random(99)
    with Session(ENGINE) as session, session.begin():
        top = Person(name="top")
        session.add(top)
        people = [Person(name=f"p{number}", boss=top if number % 2 else None) for number in range(6)]
        labels = [Label(word=f"w{number}") for number in range(10)]
        session.add_all([*people, *labels])
        for number in range(80):
            made = thing(draw, draw.choice(people), number)
            made.labels = draw.sample(labels, 3)
            session.add(made)


def write(seed, count):
    """Transactions as programs have them, each told on stdout when it is done."""
    draw = random.Random(seed)
    for number in range(1, count + 1):
        with Session(ENGINE) as session, session.begin():
            draw.choice(TRANSACTIONS)(draw, session, f"{seed}-{number}")
        print(number, flush=True)


def some(draw, session, model, count=1):
    """Some of the objects that are there."""
    keys = sorted(session.scalars(select(model.id)).all())
    return [session.get_one(model, key) for key in draw.sample(keys, count)]


def adds(draw, session, name):
    """Things of a new person, who has a boss."""
    (boss,) = some(draw, session, Person)
    person = Person(name=name, boss=boss)
    session.add(person)
    for number in range(draw.randrange(1, 4)):
        made = thing(draw, person, f"{name}.{number}")
        session.add(made)
        made.labels = some(draw, session, Label, 2)


def changes(draw, session, name):
    """All columns of one, and one column of many."""
    (old,) = some(draw, session, Thing)
    new = thing(draw, None, name)
    for column in Thing.__table__.columns:
        if column.name not in ("id", "owner_id", "twice"):
            setattr(old, column.name, getattr(new, column.name))
    session.execute(update(Thing).where(Thing.active, Thing.price < 50_000).values(price=Thing.price + Decimal("0.5")))


def links(draw, session, name):
    """Other labels, and another boss."""
    (one,) = some(draw, session, Thing)
    one.labels = some(draw, session, Label, draw.randrange(4))
    person, boss = some(draw, session, Person, 2)
    person.boss = boss


def swaps(draw, session, name):
    """Two unique values change places in one transaction."""
    one, two = some(draw, session, Person, 2)
    names = one.name, two.name
    for person, its in ((one, "between"), (two, names[0]), (one, names[1])):
        person.name = its
        session.flush()


def deletes(draw, session, name):
    """A thing, and a person with all that is theirs."""
    session.delete(some(draw, session, Thing)[0])
    person = session.scalars(select(Person).where(Person.name != "top").order_by(func.random()).limit(1)).one()
    if draw.random() < 0.3 and session.scalar(select(func.count()).select_from(Person)) > 5:
        session.execute(Visit.__table__.delete().where(Visit.person_id == person.id))
        session.delete(person)


def visits(draw, session, name):
    """Many rows at once."""
    (person,) = some(draw, session, Person)
    last = session.scalar(select(func.max(Visit.number)).where(Visit.person_id == person.id)) or 0
    rows = [{"person_id": person.id, "number": last + n, "began": moment(draw)} for n in range(1, 30)]
    session.execute(insert(Visit), rows)


TRANSACTIONS = [adds, changes, links, swaps, deletes, visits]


def seen():
    """All objects, as plain values."""
    found = {}
    with Session(ENGINE) as session:
        for mapper in Base.registry.mappers:
            columns = mapper.columns.keys()
            found[str(mapper.local_table.name)] = {
                mapper.primary_key_from_instance(each)[0] if len(mapper.primary_key) == 1
                else tuple(mapper.primary_key_from_instance(each)):
                {str(name): plain(name, getattr(each, name)) for name in columns}
                for each in session.scalars(select(mapper.class_))
            }  # fmt: skip
        links = session.execute(select(label_of_thing)).all()
        found["label_of_thing"] = {(str(one), other): {"label_id": other} for one, other in links}
    return found


def plain(name, value):
    """A value without types of this program's own; times that SQLAlchemy leaves without a zone in SQLite are in UTC."""
    if name == "aware" and value is not None:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value.name if isinstance(value, Color) else value


def answers():
    """Questions of which both stores must have one answer."""
    boss = aliased(Person)
    asked = {
        "things": select(func.count()).select_from(Thing),
        "since June": select(func.count()).where(Thing.made >= datetime(2026, 6, 1)),
        "made in May": select(func.count()).where(extract("month", Thing.made) == 5),
        "red ones": select(func.count()).where(Thing.color == Color.RED),
        "sum of prices": select(func.sum(Thing.price)),
        "with a = 1": select(func.count()).where(Thing.document["a"].as_integer() == 1),
        "with a = 1, in json": select(func.count()).where(Thing.meta["a"].as_integer() == 1),
        "deep": select(func.count()).where(Thing.document[("b", 0)].as_float() == 1.5),
        "with no document": select(func.count()).where(Thing.document.is_(None)),
        "below the top": select(func.count()).select_from(Person).join(boss, Person.boss).where(boss.name == "top"),
        "with 2 labels": select(func.count()).select_from(
            select(label_of_thing.c.thing_id).group_by(label_of_thing.c.thing_id).having(func.count() == 2).subquery()
        ),
        "generated": select(func.count()).where(Thing.twice > 1000),
        "last visit": select(func.max(Visit.began)),
    }
    with Session(ENGINE) as session:
        return {name: session.scalar(query) for name, query in asked.items()}


# ----------------------------------------------------------------------------------------- its own calls in Postgres


def use():
    """What programs do, each as one line of JSON: what, and the error."""
    assert POSTGRES
    for step in STEPS:
        error = ""
        try:
            with Session(ENGINE) as session:
                step(session)
        except BaseException as found:
            error = f"{type(found).__name__}: {found}"
        print(json.dumps({"step": step.__doc__.rstrip("."), "error": error}), flush=True)


def refused(session, call, error=IntegrityError):
    """Postgres must refuse it."""
    try:
        with session.begin_nested():
            call()
            session.flush()
    except error:
        return
    raise AssertionError("it was not refused")


def relationships(session):
    """Relationships in both directions, also loaded in advance."""
    top = session.scalars(select(Person).where(Person.name == "top")).one()
    assert all(person.boss is top for person in top.staff)
    found = session.scalars(select(Thing).options(selectinload(Thing.labels), selectinload(Thing.owner))).all()
    assert found and all(one in label.things for one in found for label in one.labels)
    assert all(one in one.owner.things for one in found)


def new_objects(session):
    """New objects get keys that are free, and all types are given back."""
    last = {model: session.scalar(select(func.max(model.id))) for model in (Person, Label)}
    person, label = Person(name="new"), Label(word="new")
    made = thing(random.Random(5), person, "new")
    made.labels, made.words = [label], ["a", "b"]
    made.aware = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    made.document = {"a": [1, {"b": None}]}
    session.add(made)
    session.commit()
    assert person.id > last[Person] and label.id > last[Label]
    session.refresh(made)
    assert made.twice == made.price * 2 and made.aware == datetime(2026, 1, 1, 7, tzinfo=UTC)
    assert made.words == ["a", "b"] and isinstance(made.color, Color)


def arrays(session):
    """Arrays are searched, unnested and indexed from 1."""
    assert session.scalar(select(func.count()).where(text("'b' = ANY(words)")).select_from(Thing)) >= 1
    assert session.scalar(select(func.count()).where(text("words @> ARRAY['a', 'b']")).select_from(Thing)) == 1
    assert session.scalar(text("SELECT count(*) FROM thing, unnest(words) AS w WHERE w = 'back\\slash'")) >= 1
    assert session.scalar(text("SELECT count(*) FROM thing WHERE words[1] = 'b c'")) >= 1


def documents(session):
    """Documents are searched as jsonb is."""
    assert session.scalar(text("SELECT count(*) FROM thing WHERE document @> '{\"a\": [1]}'")) == 1
    assert session.scalar(text("SELECT count(*) FROM thing WHERE document ? 'z'")) >= 1
    assert session.scalar(text("SELECT count(*) FROM thing WHERE jsonb_typeof(document) = 'array'")) >= 1
    assert session.scalar(text("SELECT count(*) FROM thing WHERE meta ->> 'f' IS NOT NULL")) >= 1


def enums(session):
    """The enum sorts as it is declared, and takes nothing else."""
    found = session.scalars(select(Thing.color).distinct().order_by(Thing.color)).all()
    assert found == [Color.RED, Color.BLUE], found
    refused(session, lambda: session.execute(text("UPDATE thing SET color = 'GREEN'")), DBAPIError)


def times(session):
    """Times and intervals are reckoned with in Postgres."""
    later = session.scalars(select(Thing).where(Thing.made + Thing.takes > Thing.made + timedelta(days=1))).all()
    assert later and all(one.takes > timedelta(days=1) for one in later)
    assert session.scalar(select(func.count()).where(Thing.aware > datetime(2026, 6, 1, tzinfo=UTC))) > 0


def changes_and_deletes(session):
    """Objects are changed and deleted, and what is theirs goes."""
    person = session.scalars(select(Person).where(Person.name == "new")).one()
    (one,) = person.things
    one.takes, one.meta = timedelta(days=2, microseconds=3), [1.5]
    session.commit()
    assert session.scalars(select(Thing).where(Thing.takes == one.takes)).one().meta == [1.5]
    session.delete(person)
    session.commit()
    assert session.scalar(select(func.count()).select_from(Thing).where(Thing.id == one.id)) == 0


def unique_is_refused(session):
    """A second of what is unique is refused."""
    refused(session, lambda: session.add(Person(name="top")))
    one = session.scalars(select(Thing).limit(1)).one()
    twin = thing(random.Random(6), None, "twin")
    twin.owner_id, twin.code = one.owner_id, one.code
    refused(session, lambda: session.add(twin))


def orphans_are_refused(session):
    """What refers to nothing is refused, and what is referred to is kept."""
    refused(session, lambda: session.add(Person(name="orphan", boss_id=10**9)))
    refused(session, lambda: session.execute(insert(label_of_thing).values(thing_id=uuid.uuid4(), label_id=1)))
    refused(session, lambda: session.execute(text("DELETE FROM person WHERE id IN (SELECT owner_id FROM thing)")))


def checks_are_kept(session):
    """What a CHECK or NOT NULL forbids is refused."""
    refused(session, lambda: session.execute(update(Thing).values(price=-1)))
    refused(session, lambda: session.execute(text("UPDATE thing SET code = NULL")))


STEPS = [
    relationships, new_objects, arrays, documents, enums, times, changes_and_deletes, unique_is_refused,
    orphans_are_refused, checks_are_kept,
]  # fmt: skip

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fill"]:
            fill()
        case ["write", given_seed, given_count]:
            write(int(given_seed), int(given_count))
        case ["look", given_path]:
            with open(given_path, "wb") as file:
                pickle.dump((seen(), {question: str(answer) for question, answer in answers().items()}), file)
        case ["use"]:
            use()
