"""The shop: each kind of field that is another type in each of the two stores."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Upper


class Category(models.Model):
    """Categories lie in each other."""

    name = models.CharField(max_length=60, unique=True)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.CASCADE, related_name="children")

    def __str__(self):
        return self.name


class Tag(models.Model):
    """A word on products."""

    label = models.SlugField(unique=True)


class Product(models.Model):
    """Has a field of nearly every kind."""

    class Color(models.TextChoices):
        """Of a product."""

        RED = "red"
        BLUE = "blue"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80)
    slug = models.SlugField(unique=True)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    rate = models.DecimalField(max_digits=20, decimal_places=12, null=True)
    made = models.DateTimeField()
    day = models.DateField(null=True)
    opens = models.TimeField(null=True)
    takes = models.DurationField(null=True)
    data = models.JSONField(default=dict)
    more = models.JSONField(null=True)
    image = models.BinaryField(null=True)
    color = models.CharField(max_length=8, choices=Color.choices, default=Color.RED)
    weight = models.FloatField(null=True)
    stock = models.PositiveIntegerField(default=0)
    seen = models.BigIntegerField(default=0)
    small = models.SmallIntegerField(null=True)
    active = models.BooleanField(default=True)
    origin = models.GenericIPAddressField(null=True)
    other = models.UUIDField(null=True)
    category = models.ForeignKey(Category, on_delete=models.PROTECT)
    tags = models.ManyToManyField(Tag)
    related = models.ManyToManyField("self", symmetrical=True)
    twice = models.GeneratedField(
        expression=F("price") * 2, output_field=models.DecimalField(max_digits=12, decimal_places=2), db_persist=True
    )
    shout = models.GeneratedField(
        expression=Upper("slug"), output_field=models.CharField(max_length=80), db_persist=True
    )

    class Meta:
        """What must hold."""

        constraints = (
            models.CheckConstraint(condition=Q(price__gte=0), name="price_is_not_negative"),
            models.UniqueConstraint(fields=["name", "category"], name="one_name_in_a_category"),
        )


class Order(models.Model):
    """Of a customer."""

    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    placed = models.DateTimeField(auto_now_add=True)
    products = models.ManyToManyField(Product, through="Line")


class Line(models.Model):
    """So many of one product in an order."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE)
    product = models.ForeignKey(Product, on_delete=models.CASCADE)
    count = models.PositiveSmallIntegerField(default=1)

    class Meta:
        """What must hold."""

        unique_together = (("order", "product"),)


class Receipt(models.Model):
    """At most one of an order."""

    order = models.OneToOneField(Order, on_delete=models.CASCADE, primary_key=True)
    paid = models.DateTimeField(null=True)
    amount = models.DecimalField(max_digits=10, decimal_places=2)


class Note(models.Model):
    """SQLite does not count the letters of a title."""

    title = models.CharField(max_length=20)
    at = models.DateTimeField(null=True)
