"""All models in the admin."""

from django.contrib import admin

from shop.models import Category, Note, Order, Product, Tag


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """Searches, filters, and walks through dates."""

    list_display = ("slug", "price", "made", "twice", "active")
    list_filter = ("active", "color")
    search_fields = ("slug", "name")
    date_hierarchy = "made"


admin.site.register([Category, Tag, Order, Note])
