"""`manage.py verify_model NAME[@VERSION]`: run the checks here and print them."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inframind.identity.caller import Caller
from inframind.lib.problem import Problem
from marketplace.catalog import queries, services
from marketplace.catalog.models import Model, Verification, Version

_PAUSE_SECONDS = 0.5
_OPEN = (Verification.State.QUEUED, Verification.State.RUNNING)


class Command(BaseCommand):
    help = "Verify a version (the highest, unless one is given) and print every check."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", metavar="NAME[@VERSION]")
        parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            version = find_version(options["version"])
            run = services.request_verification(version=version)
        except Problem as problem:
            raise CommandError(f"{problem.detail} {problem.remedy}".strip()) from None
        run = self._wait(run, time.monotonic() + options["timeout"])
        for check in run.checks.all():
            sign = "ok  " if check.passed else "FAIL"
            counts = f" {check.cases_passed}/{check.cases_total}" if check.cases_total else ""
            self.stdout.write(
                f"{sign} {check.get_kind_display()}{counts} ({check.duration_ms} ms) {check.detail}"
            )
        self.stdout.write(f"{version} {run.state} {run.reason}".rstrip())
        if run.state != Verification.State.PASSED:
            raise SystemExit(1)

    def _wait(self, run: Verification, deadline: float) -> Verification:
        """Does the run here, or follows the worker that took it."""
        said = ""
        while True:
            services.verify(verification_id=run.pk)
            run.refresh_from_db()
            if run.state not in _OPEN:
                return run
            if run.reason and run.reason != said:
                said = run.reason
                self.stderr.write(f"waiting: {said}")
            if time.monotonic() > deadline:
                raise CommandError(
                    f"The verification did not finish in time. {said or 'A worker has it.'}"
                )
            time.sleep(_PAUSE_SECONDS)


def find_version(text: str) -> Version:
    """The version that ``NAME[@VERSION]`` names, for staff. Raises a 404 ``Problem``."""
    name, _, number = text.partition("@")
    owner = Model.objects.filter(pk=name).values_list("owner", flat=True).first()
    return queries.get_version(name, number or None, viewer=Caller(owner or ""))
