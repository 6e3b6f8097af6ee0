"""The pytest plugin that has the servers up before anything reads Django's settings.

A plugin (``-p tests.session``), since the conftest of a folder named on the command line is loaded
before any hook of the root conftest runs.
"""

from __future__ import annotations

import os
import warnings

import django
import pytest

from inframind.devstack.nodevenv import node_venv_path
from tests import servers

_controller: servers.Controller | None = None


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Start PostgreSQL and Redis in the controller; give each worker its part of them."""
    global _controller
    asked = early_config.known_args_namespace
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        servers.set_worker_environment(worker)
    elif asked.help or asked.version:
        return
    else:
        _controller = servers.Controller.start()
    os.environ.setdefault("NODE_PYTHON", str(node_venv_path() / "bin" / "python"))
    os.environ["DJANGO_SETTINGS_MODULE"] = "inframind.settings"
    django.setup()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the name of the settings from workers: each names them once its environment is its own.

    With the name inherited, pytest-django would read the settings before the hook above.
    """
    if getattr(config.option, "numprocesses", None):
        del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End every server, also after Ctrl-C."""
    # The nodes that a worker started serve the other one too: they outlive it by design.
    warnings.filterwarnings("ignore", "subprocess .* is still running", ResourceWarning)
    if _controller is not None:
        _controller.stop()
