"""Connections of one's own to the database of the test, beside Django's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from django.db import connection
from psycopg.conninfo import make_conninfo


def conninfo() -> str:
    given = connection.settings_dict
    parameters = {
        "dbname": given["NAME"],
        "user": given["USER"],
        "password": given["PASSWORD"],
        "host": given["HOST"],
        "port": given["PORT"],
    }
    return make_conninfo(**{key: str(value) for key, value in parameters.items() if value})


@asynccontextmanager
async def database() -> AsyncIterator[psycopg.AsyncConnection]:
    opened = await psycopg.AsyncConnection.connect(conninfo(), autocommit=True)
    async with opened:
        yield opened
