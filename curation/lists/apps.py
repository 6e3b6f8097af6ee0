"""Lists: the curated shelves, their rules and their recountable rankings."""

from django.apps import AppConfig


class ListsConfig(AppConfig):
    name = "curation.lists"
    label = "lists"

    def ready(self) -> None:
        from curation.lists import queries
        from marketplace.storefront.shelves import set_source

        set_source(queries)
