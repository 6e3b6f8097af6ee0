"""The last computed ranking of each shelf, with the figures it was computed from."""

from __future__ import annotations

from django.db import models


class ShelfEntry(models.Model):
    """A model's place on a shelf; ``figures`` holds what the rule was fed, for a recount."""

    shelf = models.CharField(max_length=20)
    position = models.PositiveSmallIntegerField()
    model = models.ForeignKey("catalog.Model", on_delete=models.CASCADE, related_name="shelves")
    score = models.CharField(max_length=40, blank=True)  # exact decimal text
    figures = models.JSONField(default=dict)
    computed_at = models.DateTimeField()

    class Meta:
        ordering = ["shelf", "position"]
        verbose_name_plural = "shelf entries"
        constraints = [
            models.UniqueConstraint(fields=["shelf", "model"], name="shelf_model_once"),
            models.UniqueConstraint(fields=["shelf", "position"], name="shelf_position_once"),
        ]


class ShelfRun(models.Model):
    """When a shelf was last recomputed, empty shelves included."""

    shelf = models.CharField(max_length=20, primary_key=True)
    computed_at = models.DateTimeField()
