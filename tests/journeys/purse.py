"""A person with a wallet of their own: a key, a shell that knows it, IFM in hand."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from eth_account import Account

from tests.journeys.bank import IFM
from tests.journeys.market import ROOT, Market, Ran, run_command


@dataclass(frozen=True)
class Purse:
    """``token`` is a login's: it may do whatever the wallet may."""

    market: Market
    home: Path
    address: str
    key: str
    token: str

    @classmethod
    def of_somebody(cls, market: Market, home: Path, *, ifm: int = 0) -> Self:
        """A new wallet, logged in, with gas and so many IFM on chain."""
        home.mkdir()
        account = Account.create()
        market.bank.ask("anvil_setBalance", account.address, hex(10**18))
        if ifm:
            market.bank.give(account.address, ifm * IFM)
        token = market.domain(
            "from datetime import timedelta\n"
            "from inframind.identity import models, services\n"
            f"wallet = models.Wallet.objects.of({account.address!r})\n"
            "print(services.mint_token(wallet=wallet, name='journey', kind='login',\n"
            "    actions=models.Token.Action.values, model_scope='any',\n"
            "    lifetime=timedelta(hours=1))[1])\n"
        ).strip()
        return cls(market, home, account.address, "0x" + bytes(account.key).hex(), token)

    def infra(self, *arguments: str) -> Ran:
        """The ``infra`` command in this person's shell. Raises AssertionError where it fails."""
        ran = self.try_infra(*arguments)
        assert ran.status == 0, ran.stderr
        return ran

    def try_infra(self, *arguments: str) -> Ran:
        """The same, which may fail."""
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.home),
            "INFRA_URL": self.market.url,
            "INFRA_TOKEN": self.token,
            "INFRA_PRIVATE_KEY": self.key,
        }
        command = [sys.executable, "-m", "inframind.cli", *arguments]
        return run_command(command, env=env, cwd=self.home)

    def browser(self) -> dict[str, str]:
        """The headers of a browser that this wallet has signed in."""
        session = self.market.domain(
            "import time\n"
            "from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY\n"
            "from inframind.identity.models import Wallet\n"
            "from inframind.identity.sessions import SessionStore\n"
            f"wallet = Wallet.objects.of({self.address!r})\n"
            "session = SessionStore()\n"
            "session[SESSION_KEY] = wallet.pk\n"
            "session[BACKEND_SESSION_KEY] = 'django.contrib.auth.backends.ModelBackend'\n"
            "session[HASH_SESSION_KEY] = wallet.get_session_auth_hash()\n"
            "session['signed_in_at'] = int(time.time())\n"
            "session.create()\n"
            "print(session.session_key)\n"
        ).strip()
        csrf = "c" * 32
        return {"Cookie": f"csrftoken={csrf}; session={session}", "X-CSRFToken": csrf}

    def http(self) -> httpx.Client:
        """A program's connection, with the login's token."""
        return self.market.http(self.token)

    def get(self, path: str) -> Any:
        """A document of the API. Raises AssertionError where there is none."""
        with self.http() as http:
            answer = http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def balance(self) -> int:
        """What is left, in base units, as the API says."""
        return int(self.get("/api/v1/account/balance")["balance"]["base_units"])

    def in_hand(self) -> int:
        """IFM of the wallet on chain, in base units."""
        call = {
            "to": self.market.bank.ifm,
            "data": "0x70a08231" + self.address[2:].lower().rjust(64, "0"),
        }
        return int(self.market.bank.ask("eth_call", call, "latest"), 16)
