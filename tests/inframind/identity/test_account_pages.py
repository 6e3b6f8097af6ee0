"""The account's pages: overview, tokens, sessions."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from inframind.identity import queries
from inframind.identity.models import Session, Token, Wallet
from inframind.identity.services import mint_token
from inframind.identity.sessions import digest_of
from inframind.identity.whereabouts import describe
from inframind.lib.problem import Problem

from .browsing import FIREFOX, OTHER, OWNER, browser_of, page_of

pytestmark = pytest.mark.django_db
TOKEN = re.compile(r"infra_[0-9A-Za-z]{40,}")
PAGES = [
    "/account",
    "/account/tokens",
    "/account/tokens/new",
    "/account/sessions",
    "/account/second-factor",
    "/account/verify",
]
WISH = {
    "name": "nightly batch",
    "actions": ["invoke"],
    "model_scope": "named",
    "models": "summarizer-v1",
    "expires_in": "24h",
}


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.objects.of(OWNER)


@pytest.fixture
def client(wallet: Wallet) -> Client:
    return browser_of(wallet)


def a_token(
    wallet: Wallet, name: str = "nightly batch", calls_limit: int | None = None
) -> tuple[Token, str]:
    return mint_token(
        wallet=wallet,
        name=name,
        actions=["invoke"],
        lifetime=timedelta(days=1),
        calls_limit=calls_limit,
    )


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_is_sent_to_sign_in_and_back(path: str) -> None:
    answer = Client().get(f"{path}?a=b")
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/signin?next={path.replace('/', '%2F')}%3Fa%3Db"
    part = Client().get(path, headers={"HX-Request": "true"})
    assert part.headers["HX-Redirect"] == f"/signin?next={path.replace('/', '%2F')}"


@pytest.mark.parametrize("path", PAGES[:-1])
def test_a_page_and_its_part_are_one_and_no_cache_keeps_them(client: Client, path: str) -> None:
    whole = client.get(path)
    part = client.get(path, headers={"HX-Request": "true"})
    assert (whole.status_code, part.status_code) == (200, 200)
    assert "<!doctype html>" in page_of(whole)
    assert "<!doctype html>" not in page_of(part)
    body = page_of(part)[page_of(part).index('<div class="account-head">') :]
    assert re.sub(r'value="[^"]{64}"', "", body[:2_000])[:500] in re.sub(
        r'value="[^"]{64}"', "", page_of(whole)
    )
    assert "no-store" in whole.headers["Cache-Control"]
    assert "HX-Request" in whole.headers["Vary"]
    assert not re.search(r'<style|\sstyle="|\son[a-z]+="', page_of(whole))


def test_the_overview_names_the_wallet_and_its_roles(client: Client, wallet: Wallet) -> None:
    page = page_of(client.get("/account"))
    assert f"<code>{OWNER}</code>" in page
    assert "Member" in page
    assert "admin portal" not in page
    Wallet.objects.update(is_staff=True)
    assert "Staff of this registry" in page_of(client.get("/account"))


def test_a_name_is_changed_and_taken_away(client: Client, wallet: Wallet) -> None:
    assert client.post("/account", {"display_name": "Ada"}).headers["Location"] == "/account"
    assert "Your name is saved." in page_of(client.get("/account"))
    wallet.refresh_from_db()
    assert wallet.display_name == "Ada"
    client.post("/account", {"display_name": ""})
    wallet.refresh_from_db()
    assert wallet.display_name == ""


@pytest.mark.parametrize("name", ["x" * 61, "two\x1blines"])
def test_a_name_that_cannot_be_is_refused_beside_the_field(
    client: Client, wallet: Wallet, name: str
) -> None:
    answer = client.post("/account", {"display_name": name})
    assert answer.status_code == 422
    assert 'id="id_display_name_error"' in page_of(answer)
    assert 'aria-invalid="true"' in page_of(answer)
    wallet.refresh_from_db()
    assert wallet.display_name == ""


def test_a_token_is_shown_once_and_works_as_it_says(client: Client) -> None:
    answer = client.post(
        "/account/tokens/new",
        {**WISH, "spend_limit": "5 IFM", "calls_limit": "10", "ip_ranges": "192.0.2.0/24"},
    )
    page = page_of(answer)
    assert answer.status_code == 201
    [text, *_] = TOKEN.findall(page)
    assert f"export INFRA_TOKEN={text}" in page
    assert "no-store" in answer.headers["Cache-Control"]
    caller = queries.authenticate(text, "192.0.2.1")
    assert (caller.address, caller.actions, caller.names) == (
        OWNER,
        frozenset({"invoke"}),
        frozenset({"summarizer-v1"}),
    )
    with pytest.raises(Problem):
        queries.authenticate(text, "198.51.100.1")
    token = Token.objects.get()
    assert token.meter.calls_limit == 10
    assert token.meter.spend_limit_base_units == 5 * 10**18
    listed = page_of(client.get("/account/tokens"))
    assert text not in listed
    assert "nightly batch" in listed
    assert "0 of 10" in listed


def test_a_new_token_leaves_the_address_of_the_list_and_not_of_the_form(client: Client) -> None:
    part = client.post("/account/tokens/new", WISH, headers={"HX-Request": "true"})
    assert (part.status_code, part.headers["HX-Replace-Url"]) == (201, "/account/tokens")
    assert "HX-Replace-Url" not in client.post("/account/tokens/new", WISH).headers
    refused = client.post(
        "/account/tokens/new", {**WISH, "name": ""}, headers={"HX-Request": "true"}
    )
    assert "HX-Replace-Url" not in refused.headers


def test_the_form_ticks_the_calling_of_models_and_nothing_else(client: Client) -> None:
    page = page_of(client.get("/account/tokens/new"))
    ticked = [each for each in re.findall("<input[^>]*checkbox[^>]*>", page) if "checked" in each]
    assert [re.findall('value="([^"]*)"', each) for each in ticked] == [["invoke"]]


def test_a_token_ends_with_the_day_that_is_chosen(client: Client) -> None:
    day = (datetime.now(UTC) + timedelta(days=10)).date()
    answer = client.post(
        "/account/tokens/new", {**WISH, "expires_in": "date", "expires_on": day.isoformat()}
    )
    assert answer.status_code == 201
    ends = Token.objects.get().expires_at
    assert abs(ends - datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=UTC)) < timedelta(
        seconds=5
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"actions": []}, "actions"),
        ({"actions": ["account"]}, "actions"),
        ({"models": ""}, "models"),
        ({"models": "Not A Name!"}, "models"),
        ({"model_scope": "all"}, "model_scope"),
        ({"expires_in": "9999d"}, "expires_in"),
        ({"expires_in": "date"}, "expires_on"),
        ({"expires_in": "date", "expires_on": "2020-01-01"}, "expires_on"),
        ({"expires_in": "date", "expires_on": "soon"}, "expires_on"),
        ({"expires_in": "date", "expires_on": "9999-12-31"}, "expires_in"),
        ({"spend_limit": "a lot"}, "spend_limit"),
        ({"spend_limit": "-1"}, "spend_limit"),
        ({"calls_limit": "0"}, "calls_limit"),
        ({"calls_limit": "1.5"}, "calls_limit"),
        ({"ip_ranges": "home"}, "ip_ranges"),
    ],
)
def test_what_a_token_cannot_be_is_said_beside_its_field(
    client: Client, change: dict[str, object], field: str
) -> None:
    answer = client.post("/account/tokens/new", {**WISH, **change})
    assert answer.status_code == 422
    assert f'id="id_{field}_error"' in page_of(answer)
    assert Token.objects.count() == 0


def test_a_token_is_revoked_after_a_page_that_asks(client: Client, wallet: Wallet) -> None:
    token, text = a_token(wallet)
    path = reverse("account-token-revoke", args=[token.pk])
    assert "cannot be undone" in page_of(client.get(path))
    assert queries.authenticate(text).address == OWNER
    assert client.post(path).headers["Location"] == "/account/tokens"
    assert "is revoked" in page_of(client.get("/account/tokens"))
    with pytest.raises(Problem, match="revoked"):
        queries.authenticate(text)


def test_a_rotated_token_works_until_the_overlap_ends(client: Client, wallet: Wallet) -> None:
    token, old = a_token(wallet, calls_limit=3)
    path = reverse("account-token-rotate", args=[token.pk])
    assert client.get(path).status_code == 200
    answer = client.post(path, {"overlap": "1h"})
    assert answer.status_code == 201
    [new, *_] = TOKEN.findall(page_of(answer))
    assert queries.authenticate(new).meters == queries.authenticate(old).meters
    again = client.post(path, {"overlap": "1h"})
    assert again.status_code == 409
    assert "rotated before" in page_of(again)
    listed = page_of(client.get("/account/tokens"))
    assert listed.count("rotated, ends ") == 1
    assert listed.count("</svg> works</span>") == 1
    assert path not in listed
    assert reverse("account-token-revoke", args=[token.pk]) in listed
    assert client.post(path, {"overlap": "1y"}).status_code == 422


@pytest.mark.parametrize("act", ["rotate", "revoke"])
def test_the_token_of_another_wallet_is_not_there(client: Client, act: str) -> None:
    token, text = a_token(Wallet.objects.of(OTHER))
    path = reverse(f"account-token-{act}", args=[token.pk])
    nowhere = path.replace(str(token.pk), "0190a000-0000-7000-8000-000000000000")
    for method in (client.get, client.post):
        theirs, missing = method(path), method(nowhere)
        assert (theirs.status_code, missing.status_code) == (404, 404)
    assert queries.authenticate(text).address == OTHER


def test_tokens_that_ended_are_apart_and_logins_stand_under_sessions(
    client: Client, wallet: Wallet
) -> None:
    token, _ = a_token(wallet, name="old one")
    Token.objects.filter(pk=token.pk).update(expires_at=token.created_at)
    mint_token(
        wallet=wallet,
        name="infra login",
        actions=Token.Action.values,
        lifetime=timedelta(days=1),
        kind=Token.Kind.LOGIN,
        user_agent="infra/0.1.0 (Linux)",
    )
    page = page_of(client.get("/account/tokens"))
    assert "1 that ended" in page
    assert "infra login" not in page
    assert "infra 0.1 on Linux" in page_of(client.get("/account/sessions"))


def test_sessions_say_where_one_is_signed_in(client: Client, wallet: Wallet) -> None:
    browser_of(wallet, user_agent="curl/8.5.0")
    page = page_of(client.get("/account/sessions"))
    assert "Firefox on Linux" in page
    assert "curl 8.5" in page
    assert "192.0.2.7" in page
    assert page.count("this browser") == 1


def test_one_session_is_ended_and_the_others_stay(client: Client, wallet: Wallet) -> None:
    elsewhere = browser_of(wallet)
    [other] = [
        each.pk
        for each in Session.objects.filter(wallet=wallet)
        if f"/account/sessions/{each.pk}/end" in page_of(client.get("/account/sessions"))
        and each.pk != this_of(client)
    ]
    path = reverse("account-session-end", args=[other])
    assert client.post(path).headers["Location"] == "/account/sessions"
    assert elsewhere.get("/account").status_code == 302
    assert client.get("/account").status_code == 200
    assert client.post(path).status_code == 404


def this_of(client: Client) -> str:
    return digest_of(client.cookies["session"].value)


def test_ending_this_session_signs_out(client: Client) -> None:
    path = reverse("account-session-end", args=[this_of(client)])
    assert client.post(path).headers["Location"] == "/"
    assert client.get("/account").status_code == 302


def test_all_others_are_ended_and_tokens_work_on(client: Client, wallet: Wallet) -> None:
    elsewhere = browser_of(wallet)
    _, text = a_token(wallet)
    login, program = mint_token(
        wallet=wallet,
        name="infra login",
        actions=Token.Action.values,
        lifetime=timedelta(days=1),
        kind=Token.Kind.LOGIN,
    )
    bystander = browser_of(Wallet.objects.of(OTHER))
    client.post("/account/sessions/end-others")
    assert "2 others signed out" in page_of(client.get("/account/sessions"))
    assert elsewhere.get("/account").status_code == 302
    with pytest.raises(Problem, match="revoked"):
        queries.authenticate(program)
    assert queries.authenticate(text).address == OWNER
    assert bystander.get("/account").status_code == 200
    path = reverse("account-session-end", args=[login.pk])
    assert client.post(path).status_code == 404


def test_the_session_of_another_wallet_cannot_be_ended(client: Client) -> None:
    stranger = Wallet.objects.of(OTHER)
    elsewhere = browser_of(stranger)
    for place in (this_of(elsewhere), "0" * 40, "0190a000-0000-7000-8000-000000000000", "%00"):
        assert client.post(f"/account/sessions/{place}/end").status_code == 404
    assert elsewhere.get("/account").status_code == 200


def test_every_form_needs_its_safety_mark(wallet: Wallet) -> None:
    strict = browser_of(wallet, strict=True)
    token, text = a_token(wallet)
    forms = [
        "/account",
        "/account/tokens/new",
        reverse("account-token-rotate", args=[token.pk]),
        reverse("account-token-revoke", args=[token.pk]),
        "/account/sessions/end-others",
        reverse("account-session-end", args=[this_of(strict)]),
        "/account/second-factor",
        "/account/second-factor/recovery-codes",
        "/account/second-factor/remove",
        "/account/verify",
    ]
    for path in forms:
        assert strict.post(path, WISH).status_code == 403, path
    assert Token.objects.count() == 1
    assert queries.authenticate(text).address == OWNER
    for path in ("/account", "/account/tokens/new", "/account/sessions", "/account/second-factor"):
        page = page_of(strict.get(path))
        posts = len(re.findall(r'<form[^>]*method="post"', page))
        assert page.count('name="csrfmiddlewaretoken"') == posts > 0, path


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 "
            "(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/142.0.0.0 Mobile Safari/537.36",
            "Chrome on Android",
        ),
        ("Mozilla/5.0 (unheard of)", "A browser"),
        ("infra/0.1.0 python/3.11 Darwin", "infra 0.1 on macOS"),
        ("python-httpx/0.28.1", "python-httpx 0.28"),
        ("", "An unknown program"),
        ("<script>", "An unknown program"),
    ],
)
def test_a_user_agent_in_plain_words(user_agent: str, words: str) -> None:
    assert describe(user_agent) == words


def test_a_stranger_whose_form_comes_from_nowhere_is_sent_to_sign_in() -> None:
    for referer in ("http://[", "", "http://testserver"):
        answer = Client().post("/account/tokens/new", headers={"Referer": referer})
        assert answer.headers["Location"] == "/signin?next=%2Faccount"
