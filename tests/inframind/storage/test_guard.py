import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.storage.guard import UrlRefused, check_public_url, is_public

_INSIDE = """
    127.0.0.1 localhost 127.1 2130706433 0x7f000001 0177.0.0.1 0.0.0.0 [::1] [::] 10.0.0.1
    172.16.0.1 192.168.1.1 169.254.169.254 100.100.100.200 [::ffff:127.0.0.1]
    [::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [fe80::1] [fc00::1] [fd00:ec2::254]
    [64:ff9b::7f00:1] [64:ff9b::a9fe:a9fe] [2002:7f00:1::] [::127.0.0.1] [2001:0:7f00:1::]
    [ff02::1] 224.0.0.1 240.0.0.1 255.255.255.255 192.0.0.192 198.18.0.1 [2001:db8::1] [fec0::1]
    [3fff::1]
"""


@pytest.mark.parametrize("host", _INSIDE.split())
def test_addresses_that_are_not_public_are_refused_in_every_spelling(host: str) -> None:
    with pytest.raises(UrlRefused, match="public internet"):
        check_public_url(f"https://{host}/x", allow_loopback=False)


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[fe80::1]", "0.0.0.0", "[::]"])
def test_the_setting_opens_loopback_and_nothing_else(host: str) -> None:
    with pytest.raises(UrlRefused, match="public internet"):
        check_public_url(f"http://{host}/", allow_loopback=True)


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://127.0.0.1:81/x", 81), ("http://localhost/", 80), ("https://[::1]:8443/", 8443)],
)
def test_loopback_passes_where_it_is_allowed(url: str, port: int) -> None:
    resolved = check_public_url(url, allow_loopback=True)
    assert (resolved.url, resolved.port) == (url, port)
    assert all(address.is_loopback for address in resolved.addresses)


def test_a_public_address_passes_with_what_it_led_to() -> None:
    resolved = check_public_url("https://93.184.215.14:8443/a?b", allow_loopback=False)
    assert resolved.host == "93.184.215.14"
    assert resolved.addresses == (ipaddress.ip_address("93.184.215.14"),)
    assert check_public_url("http://[2606:4700::1111]/", allow_loopback=False).port == 80


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://93.184.215.14/", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("gopher://93.184.215.14/", "neither http nor https"),
        ("//93.184.215.14/", "neither http nor https"),
        ("https://", "no host"),
        ("https:///x", "no host"),
        ("https://user:pw@93.184.215.14/", "user name"),
        ("https://93.184.215.14\\@127.0.0.1/", "no host"),
        ("https://93.184.215.14:22/", "Port 22"),
        ("https://93.184.215.14:0/", "Port 0"),
        ("https://93.184.215.14:99999/", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("https://[fe80::1%25eth0]/", "no host"),
        ("https://a b/", "no spaces"),
        ("https://x/\r\nHost: y", "no spaces"),
        ("https://x/" + "a" * 3000, "2048 characters"),
        ("https://no-such-host.invalid/", "cannot be found"),
        ("https://" + "a" * 70 + ".example/", "cannot be found"),
    ],
)
def test_other_urls_are_refused_with_the_reason(url: str, words: str) -> None:
    with pytest.raises(UrlRefused, match=words):
        check_public_url(url, allow_loopback=False)


@given(st.sampled_from(["", "http://127.0.0.1/", "http://127.0.0.1:", "http://["]), st.text())
def test_any_text_is_refused_or_resolved_never_another_error(start: str, text: str) -> None:
    with contextlib.suppress(UrlRefused):
        check_public_url(start + text, allow_loopback=True)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_public_as_itself_only(address: ipaddress.IPv4Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved:
        assert not is_public(address)
    assert not is_public(ipaddress.IPv6Address((0x64FF9B << 96) | int(address)))
    assert not is_public(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80)))
