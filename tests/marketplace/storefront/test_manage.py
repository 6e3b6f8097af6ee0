"""The owner's tab, the groups, asking for access; and who does not get to see any of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from inframind.identity.models import Wallet
from marketplace.catalog import access, access_requests, services
from marketplace.catalog.access import Guest
from marketplace.catalog.models import AccessRequest, AllowEntry, Model, Version
from marketplace.mesh.models import Node, NodeGrant
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST, OWNER, PRIVATE, STRANGER

GUEST = "0x4444444444444444444444444444444444444444"
MANAGE = "/models/echo-text/manage"


@pytest.fixture
def private(activated: Publish) -> Model:
    return activated(PRIVATE).model


@pytest.fixture
def browser(client: Client, owner: Wallet) -> Client:
    """The owner's, signed in."""
    client.force_login(owner)
    return client


def page(client: Client, path: str = MANAGE, **kwargs: Any) -> str:
    answer = client.get(path, **kwargs)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def post(client: Client, data: dict[str, Any], path: str = MANAGE) -> Any:
    return client.post(path, data, follow=True)


def test_only_the_owner_has_the_tab(private: Model, owner: Wallet, client: Client) -> None:
    services.allow(model=private, guests=[Guest(STRANGER)], changed_by=owner)
    client.force_login(Wallet.objects.of(STRANGER))
    shown = page(client, "/models/echo-text")
    assert ("Private</span>" in shown, MANAGE in shown) == (True, False)
    assert client.get(MANAGE).status_code == 403
    client.force_login(owner)
    assert MANAGE in page(client, "/models/echo-text")


def test_to_a_stranger_the_tab_of_a_private_model_is_that_of_no_model(
    private: Model, stranger: Wallet, client: Client
) -> None:
    def told(path: str, name: str) -> tuple[int, str]:
        answer = client.get(path.format(name))
        text = answer.content.decode().replace(name, "NAME")
        text = text.replace(answer.headers["X-Request-Id"], "ID")
        return answer.status_code, re.sub(r'value="\w{64}"', "CSRF", text)

    for path in ("/models/{}", "/models/{}/manage"):
        assert told(path, "echo-text") == told(path, "nobody-has")
        client.force_login(stranger)
        assert told(path, "echo-text") == told(path, "nobody-has")
        status, text = told(path, "nobody-has")
        assert (status, "Were you given this name?" in text) == (404, True)
        assert 'action="/models/NAME/ask"' in text
        client.logout()


def test_a_public_model_s_tab_is_refused_to_others(
    activated: Publish, stranger: Wallet, client: Client
) -> None:
    activated()
    assert client.get(MANAGE).status_code == 401
    client.force_login(stranger)
    assert client.get(MANAGE).status_code == 403


def test_the_policy_is_changed_and_told_in_plain_words(activated: Publish, browser: Client) -> None:
    activated()
    assert "everybody calls it" in page(browser)
    done = post(browser, {"do": "policy", "policy": "private", "reason": "Ours"})
    text = done.content.decode()
    assert "Changed. Private: only its owner and the allow list see and call it." in text
    assert "stored readable" in text
    model = Model.objects.get()
    assert (model.public, model.restricted, model.auth_required) == (False, True, True)
    wrong = browser.post(MANAGE, {"do": "policy", "policy": "secret", "reason": ""})
    assert (wrong.status_code, Model.objects.get().public) == (422, False)
    assert "Select a valid choice" in wrong.content.decode()


def test_wallets_and_groups_are_let_in_and_removed(
    private: Model, browser: Client, owner: Wallet
) -> None:
    services.create_group(owner=owner, name="partners")
    text = post(
        browser, {"do": "allow", "who": GUEST, "ends": "30d", "note": "Ada"}
    ).content.decode()
    assert "Let in: 1 new" in text
    assert "Ada" in text
    post(browser, {"do": "allow", "who": "@partners"})
    assert [entry.address for entry in AllowEntry.objects.all()] == [GUEST, ""]
    post(browser, {"do": "remove", "who": "@partners"})
    post(browser, {"do": "remove", "who": GUEST})
    assert not AllowEntry.objects.exists()
    assert [line.what for line in access.history(private)][:2] == ["removed", "removed"]
    gone = browser.post(MANAGE, {"do": "remove", "who": GUEST})
    assert gone.status_code == 404
    assert "infra model access show echo-text" in gone.content.decode()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"who": "0x12"}, "not a wallet address"),
        ({"who": "@nobody"}, "You have no group called"),
        ({"who": GUEST, "ends": "soon"}, "is no end"),
        ({"who": GUEST, "ends": "9999999d"}, "is no end"),
        ({"who": GUEST, "ends": "2001-01-01"}, "has passed"),
        ({"who": ""}, "required"),
    ],
)
def test_a_line_that_cannot_be_used_is_kept_with_its_error(
    private: Model, browser: Client, given: dict[str, str], words: str
) -> None:
    answer = browser.post(MANAGE, {"do": "allow", "note": "still here", **given})
    text = answer.content.decode()
    assert (answer.status_code, AllowEntry.objects.count()) == (422, 0)
    assert words in text
    assert "still here" in text


def test_a_file_is_imported_whole_or_not_at_all(private: Model, browser: Client) -> None:
    good = f'address,ends,note\n# ours\n{GUEST},30d,"Ada, of us"\n\n{STRANGER}\n'
    upload = SimpleUploadedFile("list.csv", good.encode(), "text/csv")
    text = post(browser, {"do": "import", "file": upload}).content.decode()
    assert "Let in: 2 new" in text
    assert AllowEntry.objects.get(address=GUEST).note == "Ada, of us"
    bad = f"{OWNER}\nnonsense\n{GUEST},never\n"
    answer = browser.post(MANAGE, {"do": "import", "lines": bad})
    text = answer.content.decode()
    assert (answer.status_code, AllowEntry.objects.count()) == (422, 2)
    assert "line 2" in text.lower()
    assert "line 3" in text.lower()


def test_requests_are_answered_on_the_page(
    private: Model, browser: Client, stranger: Wallet, staff: Wallet
) -> None:
    for wallet in (stranger, staff):
        services.ask(wallet=wallet, name="echo-text", message="<b>For us</b>")
    path = f"{MANAGE}?section=requests"
    assert "&lt;b&gt;For us&lt;/b&gt;" in page(browser, path)
    first, second = AccessRequest.objects.order_by("created_at")
    decide = {"do": "decide", "answer": "Hello", "ends": "30d"}
    text = post(browser, {**decide, "request": str(first.pk), "verdict": "approve"}, path)
    assert "is on the list" in text.content.decode()
    post(browser, {**decide, "request": str(second.pk), "verdict": "refuse"}, path)
    assert [entry.address for entry in AllowEntry.objects.all()] == [first.wallet_id]
    assert [each.state for each in access_requests.asked_by(second.wallet_id)] == ["open"]
    assert "silently" in page(browser, path)
    assert browser.post(path, {**decide, "request": "x"}).status_code == 422


def test_nodes_are_named_and_taken_back(private: Model, browser: Client, stranger: Wallet) -> None:
    node = Node.objects.create(name="far-one", operator=stranger, endpoint="http://far.example")
    path = f"{MANAGE}?section=nodes"
    assert "far-one" in post(browser, {"do": "name-node", "node": "far-one"}, path).content.decode()
    assert NodeGrant.objects.get().node == node
    post(browser, {"do": "unname-node", "node": "far-one"}, path)
    assert not NodeGrant.objects.exists()
    assert browser.post(path, {"do": "name-node", "node": "no-such"}).status_code == 404


def test_terms_and_deprecation(activated: Publish, browser: Client) -> None:
    activated()
    activated(MANIFEST.replace("1.0", "2.0"))
    path = f"{MANAGE}?section=versions&version=1.0.0"
    terms = {
        "do": "terms",
        "per_request_fee": "0.5 IFM",
        "payout_address": GUEST,
        "reason": "It costs more.",
    }
    assert "The terms of echo-text@1.0.0 are changed" in post(browser, terms, path).content.decode()
    old = Version.objects.get(number="1.0.0")
    assert (int(old.fee_base_units), old.payout_address) == (5 * 10**17, GUEST)
    for bad in ({"per_request_fee": "much"}, {"payout_address": "0x1"}, {"reason": ""}):
        assert browser.post(path, {**terms, **bad}).status_code == 422
    change = {"do": "deprecate", "successor": "2.0", "sunset_at": "30d", "reason": "Faster."}
    assert browser.post(path, {**change, "successor": "9.9"}).status_code == 422
    post(browser, change, path)
    old.refresh_from_db()
    assert (old.state, str(old.successor)) == ("deprecated", "echo-text@2.0.0")
    assert "Faster." in page(browser, "/models/echo-text?version=1.0.0")
    form = page(browser, path)
    assert all(f'value="{value}"' in form for value in ("echo-text@2.0.0", "Faster."))
    post(browser, {**change, "reason": "Smaller."}, path)
    assert "Smaller." in page(browser, "/models/echo-text?version=1.0.0")


def test_an_htmx_request_gets_the_part_of_the_same_template(
    private: Model, browser: Client
) -> None:
    whole, part = page(browser), page(browser, headers={"HX-Request": "true"})
    assert ("<html" in whole, "<html" in part) == (True, False)
    assert "Allow list" in part
    assert browser.get(MANAGE).headers["Cache-Control"].startswith("max-age=0")


def test_every_form_has_its_csrf_token(private: Model, owner: Wallet) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    answer = client.post(MANAGE, {"do": "policy", "policy": "open", "reason": "x"})
    assert (answer.status_code, Model.objects.get().public) == (403, False)
    for path in (MANAGE, f"{MANAGE}?section=nodes", "/account/groups"):
        text = page(client, path)
        forms = re.findall(r'<form[^>]*method="post".*?</form>', text, re.DOTALL)
        assert forms
        assert all("csrfmiddlewaretoken" in form for form in forms)


def test_a_listed_model_asks_to_be_asked(
    activated: Publish, owner: Wallet, stranger: Wallet, client: Client
) -> None:
    model = activated().model
    services.change_access(
        model=model, public=True, auth_required=True, restricted=True, reason="x", changed_by=owner
    )
    assert "Calls by invitation" in page(client, "/models/echo-text")
    client.force_login(stranger)
    assert 'action="/models/echo-text/ask"' in page(client, "/models/echo-text")
    answer = client.post("/models/echo-text/ask", {"message": "For us"}, follow=True)
    assert answer.redirect_chain == [("/account/asked", 302)]
    assert 'href="/account/asked" aria-current="page"' in answer.content.decode()
    assert "For us" in answer.content.decode()
    services.allow(model=model, guests=[Guest(STRANGER)], changed_by=owner)
    assert 'action="/models/echo-text/ask"' not in page(client, "/models/echo-text")


def test_asking_on_the_page_says_the_same_for_every_name(
    private: Model, stranger: Wallet, client: Client
) -> None:
    assert client.post("/models/echo-text/ask").status_code == 302
    client.force_login(stranger)
    seen = {
        client.post(f"/models/{name}/ask", {"message": "x"}, follow=True)
        .content.decode()
        .count("asked")
        for name in ("echo-text", "nobody-has")
    }
    assert AccessRequest.objects.count() == 2
    assert seen


def test_groups_are_made_filled_and_deleted(private: Model, owner: Wallet, browser: Client) -> None:
    made = browser.post("/account/groups", {"name": "partners"}, follow=True)
    assert made.redirect_chain == [("/account/groups/partners", 302)]
    path = "/account/groups/partners"
    text = post(browser, {"do": "allow", "who": GUEST, "ends": "30d"}, path).content.decode()
    assert "In the group: 1 new" in text
    post(browser, {"do": "import", "lines": f"{STRANGER},,Ben"}, path)
    services.allow(model=private, guests=[Guest(group="partners")], changed_by=owner)
    text = page(browser, path)
    assert "Ben" in text
    assert 'href="/models/echo-text/manage"' in text
    assert browser.post(path, {"do": "allow", "who": "@partners"}).status_code == 422
    post(browser, {"do": "remove", "who": GUEST}, path)
    assert browser.post(path, {"do": "remove", "who": GUEST}).status_code == 404
    assert "2 members" not in page(browser, "/account/groups")
    assert browser.post("/account/groups", {"name": "partners"}).status_code == 422
    assert browser.post("/account/groups", {"name": "No Name"}).status_code == 422
    gone = post(browser, {"do": "delete"}, path)
    assert gone.redirect_chain == [("/account/groups", 302)]
    assert browser.get(path).status_code == 404
    assert not AllowEntry.objects.exists()


def test_groups_are_their_owner_s(owner: Wallet, stranger: Wallet, client: Client) -> None:
    services.create_group(owner=owner, name="partners")
    assert client.get("/account/groups").status_code == 302
    client.force_login(stranger)
    assert "partners" not in page(client, "/account/groups").replace("like partners", "").replace(
        "create partners", ""
    )
    assert client.get("/account/groups/partners").status_code == 404
