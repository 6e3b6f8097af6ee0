"""``python -m inframind.cli`` is the ``infra`` command."""

from inframind.cli.main import run

run()
