"""Lists: the curated shelves, their rules and their recountable rankings."""

from django.apps import AppConfig


class ListsConfig(AppConfig):
    name = "curation.lists"
    label = "lists"
