"""The shop at work: fill, write SEED COUNT, look FILE, use."""

import json
import math
import os
import pickle
import random
import sys
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django.setup()

from django.apps import apps  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, connection, transaction  # noqa: E402
from django.db.models import Avg, Count, F, JSONField, Max, Min, ProtectedError, Sum, Value  # noqa: E402
from django.test import Client  # noqa: E402
from shop.models import Category, Line, Note, Order, Product, Receipt, Tag  # noqa: E402

PASSWORD = "a long one"
#: Of JSON: numbers in all spellings that Python writes, both nulls, other letters, what looks like something else.
DOCUMENTS = [
    {}, [], None, {"a": 1, "b": [1.5, None, True], "é": "ü😀", "": "\\ \" \n"}, [1, 2.0, 0.1, -0.5], {"z": 1, "a": 2},
    "text", "2026-01-02", 5, 1.0, {"big": 12345678901234567890, "deep": {"x": [[], {}, [[1]]]}}, True, {"f": 1e300},
]  # fmt: skip
#: None is NULL.
JSON_NULL = Value(None, JSONField())


def moment(draw):
    """A time as the settings want it; a quarter have no fraction."""
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=draw.randrange(300 * 86400))
    if draw.random() < 0.75:
        at += timedelta(microseconds=draw.randrange(1_000_000))
    return at if settings.USE_TZ else at.replace(tzinfo=None)


def product(draw, category):
    """A product with whatever its fields take."""
    number = draw.randrange(10**9)
    return Product(
        id=uuid.UUID(int=draw.getrandbits(128), version=4),
        name=draw.choice(["Chair", "Tablé", "läng " * 12, ""]) + str(number),
        slug=f"p-{number}-{draw.randrange(10**6)}",
        price=Decimal(draw.randrange(10_000_000)) / 100,
        rate=draw.choice([None, Decimal(draw.randrange(10**14)) / 10**12, Decimal("0.1"), Decimal(1) / 3]),
        made=moment(draw),
        day=draw.choice([None, date(2026, 2, 28), date(1, 1, 1), date(9999, 12, 31)]),
        opens=draw.choice([None, time(8, 30), time(23, 59, 59, 999999), time(0, 0)]),
        takes=draw.choice(
            [None, timedelta(0), timedelta(days=-3, microseconds=1), timedelta(days=40000, hours=5, microseconds=7)]
        ),
        data=draw.choice([document for document in DOCUMENTS if document is not None]),
        more=draw.choice([*DOCUMENTS, JSON_NULL]),
        image=draw.choice([None, b"", b"\0\xff", draw.randbytes(300)]),
        color=draw.choice(Product.Color.values),
        weight=draw.choice([None, 0.1, -0.0, 1e300, 5e-324, math.inf, draw.random()]),
        stock=draw.randrange(100),
        seen=draw.choice([0, 2**62, -(2**63), 2**63 - 1]),
        small=draw.choice([None, -32768, 32767]),
        active=draw.random() < 0.8,
        origin=draw.choice([None, "10.0.0.1", "::1", "2001:db8::ff"]),
        other=draw.choice([None, uuid.UUID(int=draw.getrandbits(128))]),
        category=category,
    )


def odd_times():
    """Hours that occur twice in Berlin, and never."""
    twice, never = datetime(2026, 10, 25, 2, 30, 0, 5), datetime(2026, 3, 29, 2, 30)
    return [at.replace(tzinfo=UTC) if settings.USE_TZ else at for at in (twice, never)]


def fill():
    """What is there before the mirror comes."""
    draw = random.Random(99)
    with transaction.atomic():
        User.objects.create_superuser("root", "root@example.org", PASSWORD)
        for name in ("ann", "bob"):
            User.objects.create_user(name, password=PASSWORD).user_permissions.add(*Permission.objects.all()[:3])
        Group.objects.create(name="clerks").permissions.set(Permission.objects.all()[5:9])
        top = Category.objects.create(name="top")
        for number in range(5):
            Category.objects.create(name=f"c{number}", parent=top if number % 2 else None)
        Tag.objects.bulk_create(Tag(label=f"t{number}") for number in range(12))
        categories = list(Category.objects.all())
        for _ in range(60):
            made = product(draw, draw.choice(categories))
            made.save()
            made.tags.set(draw.sample(list(Tag.objects.all()), 3))
        for number in range(3):
            orders(draw, f"o{number}")
        Note.objects.create(title="short enough")
        Note.objects.create(title="longer than twenty letters")
        for at in odd_times():
            Note.objects.create(title="odd", at=at)
    assert Client().login(username="root", password=PASSWORD)


def write(seed, count):
    """Transactions as programs have them, each told on stdout when it is done."""
    draw = random.Random(seed)
    for number in range(1, count + 1):
        with transaction.atomic():
            draw.choice(TRANSACTIONS)(draw, f"{seed}-{number}")
        print(number, flush=True)


def some(draw, model):
    """One of the objects that are there."""
    found = list(model.objects.order_by("pk").values_list("pk", flat=True))
    return model.objects.get(pk=draw.choice(found))


def adds_products(draw, name):
    """New ones, in a new category in another."""
    category = Category.objects.create(name=name, parent=some(draw, Category))
    for _ in range(draw.randrange(1, 4)):
        made = product(draw, category)
        made.save()
        made.tags.set(draw.sample(list(Tag.objects.all()), 2))
        made.related.add(some(draw, Product))


def changes_products(draw, name):
    """All fields of one, and one field of many."""
    old = some(draw, Product)
    new = product(draw, old.category)
    new.id, new.name = old.id, name
    new.save(force_update=True)
    Product.objects.filter(active=True, stock__lt=50).update(stock=F("stock") + 1, price=F("price") + Decimal("0.01"))


def changes_links(draw, name):
    """Those of tags and of products to each other."""
    one = some(draw, Product)
    one.tags.set(draw.sample(list(Tag.objects.all()), draw.randrange(4)))
    one.related.clear()
    one.related.add(some(draw, Product), some(draw, Product))


def swaps_names(draw, name):
    """Two unique values change places in one transaction."""
    one, two = Category.objects.order_by("?")[:2]
    names = one.name, two.name
    Category.objects.filter(pk=one.pk).update(name="between")
    Category.objects.filter(pk=two.pk).update(name=names[0])
    Category.objects.filter(pk=one.pk).update(name=names[1])


def orders(draw, name):
    """An order with its lines, and a user for it now and then."""
    user = User.objects.create_user(f"u{name}", password=PASSWORD) if draw.random() < 0.5 else some(draw, User)
    order = Order.objects.create(customer=user)
    for one in Product.objects.order_by("?")[: draw.randrange(1, 5)]:
        Line.objects.create(order=order, product=one, count=draw.randrange(1, 9))
    amount = order.line_set.aggregate(sum=Sum(F("product__price")))["sum"]
    Receipt.objects.create(order=order, paid=draw.choice([None, moment(draw)]), amount=amount)


def deletes(draw, name):
    """What depends on it goes, too."""
    draw.choice([some(draw, Product), Order.objects.order_by("?").first() or some(draw, Product)]).delete()
    empty = Category.objects.filter(product=None, children=None).order_by("?").first()
    if empty is not None:
        empty.delete()


def notes(draw, name):
    """Some of them too long, some mended later."""
    Note.objects.create(title=draw.choice([name, f"long title of the note {name}"]), at=moment(draw))
    late = Note.objects.filter(title__startswith="long title").order_by("?").first()
    if late is not None:
        late.title = name
        late.save() if draw.random() < 0.7 else late.delete()


def logs_in(draw, name):
    """A session, which has pickled values in it."""
    Client().login(username="root", password=PASSWORD)
    if draw.random() < 0.3:
        Session.objects.order_by("?").first().delete()


TRANSACTIONS = [adds_products, changes_products, changes_links, swaps_names, orders, deletes, notes, logs_in]


def seen():
    """All objects, as plain values."""
    found = {}
    for model in apps.get_models(include_auto_created=True):
        fields = model._meta.concrete_fields
        objects = {each.pk: {field.column: plain(getattr(each, field.attname)) for field in fields}
                   for each in model.objects.all()}  # fmt: skip
        found[model._meta.db_table] = objects
    return found


def plain(value):
    """A value without types of a driver."""
    return bytes(value) if isinstance(value, memoryview) else value


def answers():
    """Questions of which both stores must have one answer."""
    june = datetime(2026, 6, 1, tzinfo=UTC if settings.USE_TZ else None)
    products, orders = Product.objects, Order.objects
    return {
        "products": products.count(),
        "sum of prices": str(products.aggregate(sum=Sum("price"))["sum"].quantize(Decimal("0.01"))),
        "since June": products.filter(made__gte=june).count(),
        "by month": [str(each) for each in products.dates("made", "month")],
        "made at an hour": products.filter(made__hour=5).count(),
        "longer than a day": products.filter(takes__gt=timedelta(days=1)).count(),
        "JSON with a = 1": products.filter(data__a=1).count(),
        "JSON with b[1] null": products.filter(data__b__1=None).count(),
        "JSON that has the key z": products.filter(more__has_key="z").count(),
        "JSON null": products.filter(more=JSON_NULL).count(),
        "SQL NULL": products.filter(more__isnull=True).count(),
        "of a color, by number": list(products.values_list("color").annotate(Count("pk")).order_by("color")),
        "smallest and largest": list(products.aggregate(Min("seen"), Max("seen")).values()),
        "average of stock": round(products.aggregate(avg=Avg("stock"))["avg"], 9),
        "with 2 tags": products.annotate(n=Count("tags")).filter(n=2).count(),
        "images of 300 bytes": sum(len(image or b"") == 300 for (image,) in products.values_list("image")),
        "paid": str(orders.filter(receipt__paid__isnull=False).aggregate(sum=Sum("line__count"))["sum"]),
        "below a category": Category.objects.filter(parent__name="top").count(),
        "permissions of ann": sorted(User.objects.get(username="ann").get_all_permissions()),
        "generated": products.filter(twice__gt=1000, shout__startswith="P-").count(),
    }


# ----------------------------------------------------------------------------------------- its own calls in Postgres


def use():
    """What people and programs do, each as one line of JSON: what, and the error."""
    for step in STEPS:
        error = ""
        try:
            step()
        except BaseException as found:
            error = f"{type(found).__name__}: {found}"
        print(json.dumps({"step": step.__doc__.rstrip("."), "error": error}), flush=True)


def refused(call, error=IntegrityError):
    """Postgres must refuse it."""
    try:
        with transaction.atomic():
            call()
            connection.check_constraints()
    except error:
        return
    raise AssertionError("it was not refused")


def migrations_are_done():
    """migrate --check."""
    call_command("migrate", check_unapplied=True, verbosity=0)


def nothing_to_migrate():
    """makemigrations --check."""
    call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)


def page(client, path, **data):
    """A page of the admin; with data it is posted, and must lead on."""
    answer = client.post(path, data, follow=True) if data else client.get(path)
    assert answer.status_code == 200, answer.status_code
    if data:
        assert answer.redirect_chain, answer.context["errors"]
    return answer.content.decode()


def old_session():
    """A session that was begun on SQLite is one here."""
    found = [each for each in Session.objects.all() if each.get_decoded().get("_auth_user_id")]
    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = found[0].session_key
    assert "Site administration" in page(client, "/admin/")


def admin_pages():
    """The login page, a login, and the admin's lists, searches and forms."""
    client = Client()
    assert "Log in" in page(client, "/admin/login/")
    page(client, "/admin/login/?next=/admin/", username="root", password=PASSWORD)
    for path in ("", "shop/product/", "shop/product/?q=p-", "shop/product/?active__exact=1", "shop/category/",
                 "auth/user/", "auth/group/", "shop/order/"):  # fmt: skip
        page(client, f"/admin/{path}")
    month = Product.objects.order_by("made").values_list("made", flat=True)[0]
    assert "p-" in page(client, f"/admin/shop/product/?made__year={month.year}")
    page(client, f"/admin/shop/product/{Product.objects.order_by('pk')[0].pk}/change/")


def admin_writes():
    """Objects are added, changed and deleted in the admin."""
    client = Client()
    client.login(username="root", password=PASSWORD)
    page(client, "/admin/shop/category/add/", name="by the admin")
    made = Category.objects.get(name="by the admin")
    page(client, f"/admin/shop/category/{made.pk}/change/", name="renamed")
    page(client, f"/admin/shop/category/{made.pk}/delete/", post="yes")
    assert not Category.objects.filter(pk=made.pk).exists()


def new_objects():
    """New objects of every model get keys that are free."""
    draw = random.Random(5)
    for model in (Category, Tag, Order, Note, User, Group):
        last = model.objects.aggregate(last=Max("pk"))["last"]
        made = {
            Category: lambda: Category.objects.create(name="new"),
            Tag: lambda: Tag.objects.create(label="new"),
            Order: lambda: Order.objects.create(customer=User.objects.get(username="ann")),
            Note: lambda: Note.objects.create(title="new"),
            User: lambda: User.objects.create_user("new", password=PASSWORD),
            Group: lambda: Group.objects.create(name="new"),
        }[model]()
        assert last is None or made.pk > last, (model, made.pk, last)
    one = product(draw, Category.objects.get(name="new"))
    one.save()
    one.tags.set(Tag.objects.all()[:3])
    one.related.add(*Product.objects.exclude(pk=one.pk)[:2])
    Line.objects.create(order=Order.objects.latest("pk"), product=one)
    one.refresh_from_db()
    assert one.twice == one.price * 2 and one.shout == one.slug.upper()
    User.objects.get(username="new").user_permissions.add(Permission.objects.all()[0])
    ContentType.objects.create(app_label="shop", model="new").delete()


def changes_and_deletes():
    """Objects are changed and deleted, and what depends on them goes."""
    one = Product.objects.get(category__name="new")
    one.takes, one.data, one.made = timedelta(days=2, microseconds=3), {"a": [1]}, moment(random.Random(1))
    one.save()
    assert Product.objects.get(data__a__0=1, takes=one.takes, made=one.made).pk == one.pk
    assert Product.objects.filter(data__contains={"a": [1]}).exists()
    one.delete()
    assert not Line.objects.filter(product_id=one.pk).exists()
    Category.objects.get(name="new").delete()


def swaps_here():
    """Names are exchanged here, too."""
    swaps_names(random.Random(0), "")


def unique_is_refused():
    """A second of what is unique is refused."""
    refused(lambda: Category.objects.create(name="top"))
    one = Product.objects.all()[0]
    draw = random.Random(6)
    for name, value in (("slug", one.slug), ("id", one.id)):
        twin = product(draw, one.category)
        setattr(twin, name, value)
        refused(lambda twin=twin: twin.save(force_insert=True))
    twin = product(draw, one.category)
    twin.name = one.name
    refused(twin.save)
    line = Line.objects.all()[0]
    refused(lambda: Line.objects.create(order=line.order, product=line.product))


def orphans_are_refused():
    """What refers to nothing is refused, and what is referred to is kept."""
    refused(lambda: Category.objects.create(name="orphan", parent_id=10**9))
    refused(lambda: Line.objects.create(order_id=10**9, product_id=uuid.uuid4()))
    refused(lambda: Product.tags.through.objects.create(product_id=uuid.uuid4(), tag_id=1))
    used = Product.objects.all()[0].category
    refused(used.delete, ProtectedError)

    def by_hand():
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM shop_category WHERE id = %s", [used.pk])

    refused(by_hand)


def checks_are_kept():
    """A value that a CHECK or a type forbids is refused."""
    refused(lambda: Product.objects.update(price=-1))
    refused(lambda: Product.objects.update(stock=-1))
    refused(lambda: Note.objects.create(title=None))


STEPS = [
    migrations_are_done, nothing_to_migrate, old_session, admin_pages, admin_writes, new_objects, changes_and_deletes,
    swaps_here, unique_is_refused, orphans_are_refused, checks_are_kept,
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
