"""Sign-in messages: one text for one message, one reading of a text, everything else refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib import siwe
from inframind.lib.addresses import checksum_address

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FULL = f"""https://market.example:8443 wants you to sign in with your Ethereum account:
{ADDRESS}

I accept the terms of service: https://market.example/tos

URI: https://market.example:8443/signin
Version: 1
Chain ID: 31337
Nonce: 32891756aBcD
Issued At: 2026-11-24T12:00:00Z
Expiration Time: 2026-11-24T12:10:00.250Z
Not Before: 2026-11-24T13:59:00+02:00
Request ID: some-id%20:@!
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- https://market.example/claim.json?x=[REPLACED]#part""".replace("[REPLACED]", "1/2?3")
SHORT = f"""market.example wants you to sign in with your Ethereum account:
{ADDRESS}


URI: https://market.example/signin
Version: 1
Chain ID: 1
Nonce: 00000000
Issued At: 2026-11-24T12:00:00Z"""


def message(**changes: Any) -> siwe.Message:
    return replace(siwe.parse(SHORT), **changes)


def test_every_field_of_a_full_message_is_read() -> None:
    assert siwe.parse(FULL) == siwe.Message(
        scheme="https",
        domain="market.example:8443",
        address=ADDRESS,
        statement="I accept the terms of service: https://market.example/tos",
        uri="https://market.example:8443/signin",
        version="1",
        chain_id=31337,
        nonce="32891756aBcD",
        issued_at="2026-11-24T12:00:00Z",
        expiration_time="2026-11-24T12:10:00.250Z",
        not_before="2026-11-24T13:59:00+02:00",
        request_id="some-id%20:@!",
        resources=(
            "ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/",
            "https://market.example/claim.json?x=1/2?3#part",
        ),
    )


def test_what_may_be_absent_is_none() -> None:
    parsed = siwe.parse(SHORT)
    assert (parsed.scheme, parsed.statement, parsed.request_id, parsed.resources) == (None,) * 4


GOOD = {
    "as short as can be": SHORT,
    "everything": FULL,
    "an IPv4 domain with a port": SHORT.replace("market.example wants", "127.0.0.1:8000 wants"),
    "an IPv6 domain": SHORT.replace("market.example wants", "[2001:db8::1]:8000 wants"),
    "an IPvFuture domain": SHORT.replace("market.example wants", "[v1.fe80:a] wants"),
    "a domain with user info": SHORT.replace("market.example wants", "me:x@market.example wants"),
    "an encoded domain": SHORT.replace("market.example wants", "m%C3%BCnchen.example wants"),
    "a domain with an empty port": SHORT.replace("market.example wants", "market.example: wants"),
    "a did as URI": SHORT.replace("https://market.example/signin", "did:key:z6Mk#z6Mk"),
    "a URI without a path": SHORT.replace("https://market.example/signin", "https://a"),
    "a URI that is a scheme": SHORT.replace("https://market.example/signin", "about:"),
    "a URI with an empty host": SHORT.replace("https://market.example/signin", "file:///etc/hosts"),
    "a statement of signs": SHORT.replace("\n\n\n", "\n\n -._~:/?#[]@!$&'()*+,;= \n\n"),
    "chain 0": SHORT.replace("Chain ID: 1", "Chain ID: 0"),
    "the largest chain id": SHORT.replace("Chain ID: 1", f"Chain ID: {2**256 - 1}"),
    "a time with a fraction": SHORT.replace("12:00:00Z", "12:00:00.123456789Z"),
    "a time in lower case": SHORT.replace("T12:00:00Z", "t12:00:00z"),
    "a time with an offset": SHORT.replace("12:00:00Z", "12:00:00-23:59"),
    "a leap second": SHORT.replace("2026-11-24T12:00:00Z", "2016-12-31T23:59:60Z"),
    "a leap day": SHORT.replace("2026-11-24", "2028-02-29"),
    "an empty request id": SHORT + "\nRequest ID: ",
    "a list without resources": SHORT + "\nResources:",
    "not before without an expiry": SHORT + "\nNot Before: 2026-11-24T12:00:00Z",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_a_good_message_is_read_and_written_back_to_the_byte(text: str) -> None:
    assert siwe.write(siwe.parse(text)) == text


BAD = {
    "nothing": ("", "the first line has to end with"),
    "another first line": (SHORT.replace("Ethereum", "Solana"), "the first line has to end with"),
    "no domain": (SHORT.replace("market.example wants", " wants"), "'' is not a domain"),
    "a scheme without a domain": (
        SHORT.replace("market.example wants", "https:// wants"),
        "'' is not a domain",
    ),
    "a path in the domain": (
        SHORT.replace("market.example wants", "market.example/x wants"),
        "is not a domain",
    ),
    "a scheme that begins with a digit": (
        SHORT.replace("market.example wants", "1http://market.example wants"),
        "'1http' is not a URI scheme",
    ),
    "letters beyond ASCII in the domain": (
        SHORT.replace("market.example wants", "mаrket.example wants"),
        "is not a domain",
    ),
    "a port that is no number": (
        SHORT.replace("market.example wants", "market.example:80a wants"),
        "is not a domain",
    ),
    "a broken IPv6 domain": (
        SHORT.replace("market.example wants", "[2001:db8:::1] wants"),
        "is not a domain",
    ),
    "an IPv6 zone": (
        SHORT.replace("market.example wants", "[fe80::1%25eth0] wants"),
        "is not a domain",
    ),
    "text behind an IPv6 literal": (
        SHORT.replace("market.example wants", "[::1]x wants"),
        "is not a domain",
    ),
    "two at signs": (SHORT.replace("market.example wants", "a@b@c wants"), "is not a domain"),
    "half an escape": (SHORT.replace("market.example wants", "a%C wants"), "is not a domain"),
    "an address in lower case": (SHORT.replace(ADDRESS, ADDRESS.lower()), "EIP-55 checksum"),
    "an address in upper case": (
        SHORT.replace(ADDRESS, "0x" + ADDRESS[2:].upper()),
        "EIP-55 checksum",
    ),
    "one letter of the address in the other case": (
        SHORT.replace(ADDRESS, ADDRESS.replace("dc79C8", "dc79c8")),
        "EIP-55 checksum",
    ),
    "0X before the address": (SHORT.replace("0x", "0X"), "is not an address"),
    "an address without 0x": (SHORT.replace("0x", ""), "is not an address"),
    "a short address": (SHORT.replace(ADDRESS, ADDRESS[:-1]), "is not an address"),
    "a space behind the address": (SHORT.replace(ADDRESS, ADDRESS + " "), "is not an address"),
    "no empty line below the address": (
        SHORT.replace("\n\n\n", "\n"),
        "line 3 has to be empty, after the address",
    ),
    "one empty line for two": (SHORT.replace("\n\n\n", "\n\n"), "line 5 has to be empty"),
    "a statement of two lines": (
        SHORT.replace("\n\n\n", "\n\none\ntwo\n\n"),
        "line 5 has to be empty, after the statement",
    ),
    "a statement beyond ASCII": (SHORT.replace("\n\n\n", "\n\nja—nein\n\n"), "the statement may"),
    "a statement with a tab": (SHORT.replace("\n\n\n", "\n\na\tb\n\n"), "the statement may"),
    "CR LF": (SHORT.replace("\n", "\r\n"), "the first line has to end with"),
    "a carriage return in a value": (SHORT.replace("Nonce: 00", "Nonce: 00\r"), "a nonce has"),
    "no URI": (SHORT.replace("URI: https://market.example/signin\n", ""), "line 5 has to begin"),
    "a relative URI": (SHORT.replace("https://market.example/signin", "/signin"), "absolute URI"),
    "a URI with a space": (SHORT.replace("example/signin", "example/sign in"), "absolute URI"),
    "a URI with a broken host": (SHORT.replace("//market.example/s", "//[::/s"), "absolute URI"),
    "two fragments": (SHORT.replace("/signin", "/signin#a#b"), "absolute URI"),
    "version 2": (SHORT.replace("Version: 1", "Version: 2"), "the version is '2', not 1"),
    "version 1.0": (SHORT.replace("Version: 1", "Version: 1.0"), "not 1"),
    "a hexadecimal chain id": (SHORT.replace("Chain ID: 1", "Chain ID: 0x1"), "decimal number"),
    "a negative chain id": (SHORT.replace("Chain ID: 1", "Chain ID: -1"), "decimal number"),
    "digits of another script": (SHORT.replace("Chain ID: 1", "Chain ID: ١"), "decimal number"),
    "a chain id of 5,000 digits": (
        SHORT.replace("Chain ID: 1", "Chain ID: " + "9" * 5000),
        "decimal number",
    ),
    "a chain id beyond 256 bits": (SHORT.replace("Chain ID: 1", f"Chain ID: {2**256}"), "256 bits"),
    "leading zeros": (SHORT.replace("Chain ID: 1", "Chain ID: 01"), "leading zeros"),
    "an empty chain id": (SHORT.replace("Chain ID: 1", "Chain ID: "), "decimal number"),
    "a short nonce": (SHORT.replace("00000000", "0000000"), "a nonce has at least 8"),
    "a nonce with a hyphen": (SHORT.replace("00000000", "0000-0000"), "a nonce has"),
    "no issue time": (SHORT.rpartition("\n")[0], "the message ends before `Issued At: `"),
    "a day without a time": (SHORT.replace("T12:00:00Z", ""), "not an RFC 3339 date and time"),
    "a time without a zone": (SHORT.replace("12:00:00Z", "12:00:00"), "not an RFC 3339"),
    "a time with a space": (SHORT.replace("T12", " 12"), "not an RFC 3339"),
    "30 February": (SHORT.replace("2026-11-24", "2026-02-30"), "does not exist"),
    "29 February of a common year": (SHORT.replace("2026-11-24", "2026-02-29"), "does not exist"),
    "month 13": (SHORT.replace("2026-11-24", "2026-13-24"), "does not exist"),
    "year 0": (SHORT.replace("2026-11-24", "0000-11-24"), "does not exist"),
    "hour 24": (SHORT.replace("T12:00:00Z", "T24:00:00Z"), "does not exist"),
    "second 61": (SHORT.replace("12:00:00Z", "12:00:61Z"), "second that does not exist"),
    "a zone of 24 hours": (SHORT.replace("00:00Z", "00:00+24:00"), "time zone that does not exist"),
    "beyond the calendar": (
        SHORT.replace("2026-11-24T12:00:00Z", "9999-12-31T23:59:59-01:00"),
        "does not exist",
    ),
    "an empty fraction": (SHORT.replace("12:00:00Z", "12:00:00.Z"), "not an RFC 3339"),
    "an expiry that is no time": (SHORT + "\nExpiration Time: soon", "not an RFC 3339"),
    "lines out of order": (
        SHORT + "\nRequest ID: 1\nNot Before: 2026-11-24T12:00:00Z",
        "line 11 is unknown, twice there, or out of order: 'Not Before",
    ),
    "a line twice": (
        SHORT + "\nRequest ID: 1\nRequest ID: 2",
        "line 11 is unknown, twice there, or out of order",
    ),
    "a line nobody knows": (SHORT + "\nAudience: all", "line 10 is unknown"),
    "an empty line at the end": (SHORT + "\n", "line 10 is unknown"),
    "a label in lower case": (SHORT.replace("Nonce:", "nonce:"), "line 8 has to begin"),
    "a label without its space": (SHORT.replace("Nonce: ", "Nonce:"), "line 8 has to begin"),
    "a request id with a slash": (SHORT + "\nRequest ID: a/b", "the request id"),
    "a resource that is no URI": (SHORT + "\nResources:\n- here", "the resource 'here'"),
    "a resource without a dash": (
        SHORT + "\nResources:\nhttps://a",
        "line 11 has to be a resource",
    ),
    "an empty line among resources": (SHORT + "\nResources:\n- a:b\n\n- a:b", "line 12 has to be"),
    "more than the limit": (SHORT + "\nRequest ID: " + "a" * siwe.MAX_CHARACTERS, "longer than"),
    "a null byte": (
        SHORT.replace("market.example wants", "market\0.example wants"),
        "not a domain",
    ),
    "a line separator": (SHORT.replace("00000000", "0000\u20280000"), "a nonce has"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_a_bad_message_is_refused_and_says_why(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        siwe.parse(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_cannot_be_written_cannot_be_made() -> None:
    for changes in (
        {"statement": ""},
        {"statement": "two\nlines"},
        {"domain": "a b"},
        {"address": ADDRESS.lower()},
        {"chain_id": -1},
        {"nonce": "short"},
        {"resources": ("a:b", "c")},
        {"scheme": ""},
        {"issued_at": "now"},
    ):
        with pytest.raises(ValueError):
            message(**changes)


unreserved = "abcXYZ019-._~"
sub_delims = "!$&'()*+,;="
pchars = st.lists(
    st.sampled_from([*unreserved, *sub_delims, ":", "@", "%20", "%fF"]), max_size=12
).map("".join)
schemes = st.from_regex(r"[a-zA-Z][a-zA-Z0-9+.-]{0,8}", fullmatch=True)
hosts = st.one_of(
    st.text(unreserved + sub_delims, min_size=1, max_size=12),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"),
    st.just("[vF.a:b]"),
)
authorities = st.builds(
    lambda user, host, port: f"{user}{host}{port}",
    st.one_of(st.just(""), st.text(unreserved + sub_delims + ":", max_size=6).map("{}@".format)),
    hosts,
    st.one_of(st.just(""), st.integers(0, 99999).map(":{}".format)),
)
uris = st.builds(
    lambda scheme, authority, path, query, fragment: f"{scheme}:{authority}{path}{query}{fragment}",
    schemes,
    st.one_of(st.just(""), authorities.map("//{}".format)),
    st.one_of(
        st.just(""), st.lists(pchars, min_size=1, max_size=3).map(lambda p: "/a" + "/".join(p))
    ),
    st.one_of(st.just(""), pchars.map("?{}".format)),
    st.one_of(st.just(""), pchars.map("#{}".format)),
)
times = st.builds(
    lambda moment, fraction, zone: moment.strftime("%Y-%m-%dT%H:%M:%S") + fraction + zone,
    st.datetimes(datetime.fromisoformat("1000-01-03"), datetime.fromisoformat("9999-12-28")),
    st.one_of(st.just(""), st.text("0123456789", min_size=1, max_size=12).map(".{}".format)),
    st.sampled_from(["Z", "z", "+00:00", "-00:00", "+23:59", "-11:30"]),
)
messages = st.builds(
    siwe.Message,
    scheme=st.none() | schemes,
    domain=authorities,
    address=st.binary(min_size=20, max_size=20).map(lambda b: checksum_address("0x" + b.hex())),
    statement=st.none() | st.text(unreserved + sub_delims + ":/?#[]@ ", min_size=1, max_size=60),
    uri=uris,
    chain_id=st.integers(0, 2**256 - 1),
    nonce=st.from_regex(r"[a-zA-Z0-9]{8,40}", fullmatch=True),
    issued_at=times,
    expiration_time=st.none() | times,
    not_before=st.none() | times,
    request_id=st.none() | pchars,
    resources=st.none() | st.lists(uris, max_size=3).map(tuple),
)


@given(messages)
def test_what_is_written_reads_as_it_was(made: siwe.Message) -> None:
    assert siwe.parse(siwe.write(made)) == made


@given(messages, st.data())
def test_whatever_is_read_is_written_back_to_the_byte(made: siwe.Message, data: Any) -> None:
    text = list(siwe.write(made))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.sampled_from(["", "\n", " ", "a", "1", "/", ":", "é", "\r"]))
    changed = "".join(text)
    try:
        parsed = siwe.parse(changed)
    except ValueError:
        return
    assert siwe.write(parsed) == changed


@given(st.text(max_size=300))
def test_noise_is_a_value_error(noise: str) -> None:
    with pytest.raises(ValueError):
        siwe.parse(noise)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-24T12:00:00Z", NOW),
        ("2026-11-24t13:30:00.5+01:30", NOW + timedelta(milliseconds=500)),
        ("2026-11-24T00:00:00.1234569-12:00", NOW + timedelta(microseconds=123456)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_an_instant(text: str, instant: datetime) -> None:
    assert siwe.moment(text) == instant


def test_an_instant_is_written_in_utc_to_the_second() -> None:
    assert siwe.rfc3339(datetime.fromisoformat("2026-11-24T13:00:00.9+01:00")) == (
        "2026-11-24T12:00:00Z"
    )


def check(made: siwe.Message, **changes: Any) -> None:
    given: dict[str, Any] = {
        "domain": "market.example",
        "uri": "https://market.example/signin",
        "chain_id": 1,
        "nonce": "00000000",
        "now": NOW,
    }
    siwe.check(made, **{**given, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scheme": "https"},
        {"expiration_time": "2026-11-24T12:00:01Z"},
        {"not_before": "2026-11-24T12:00:00Z"},
        {"issued_at": "2026-11-24T12:01:00Z"},
        {"issued_at": "2026-11-24T13:00:00+01:00"},
    ],
)
def test_a_message_that_fits_passes(changes: dict[str, Any]) -> None:
    check(message(**changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"domain": "evil.example"}, "the message is for evil.example, not for market.example"),
        ({"domain": "MARKET.example"}, "not for market.example"),
        ({"domain": "market.example:443"}, "not for market.example"),
        ({"scheme": "http"}, "the message is for http://, not for https://market.example/signin"),
        ({"uri": "https://market.example/"}, "URI is https://market.example/, not https"),
        ({"chain_id": 5}, "the message is for chain 5, not for chain 1"),
        ({"nonce": "11111111"}, "the message has another nonce"),
        ({"issued_at": "2026-11-24T12:01:01Z"}, "the message is dated in the future"),
        ({"not_before": "2026-11-24T12:00:01Z"}, "the message is not valid before"),
        (
            {"expiration_time": "2026-11-24T12:00:00Z"},
            "the message expired at 2026-11-24T12:00:00Z",
        ),
        ({"expiration_time": "2026-11-24T12:30:00+01:00"}, "the message expired at"),
    ],
)
def test_each_difference_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        check(message(**changes))
    assert said in str(caught.value)
