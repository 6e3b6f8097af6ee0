"""References to packages that live elsewhere: reading them, and fetching the two kinds we fetch."""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urljoin, urlsplit

import requests
from requests_hardened import Config, HTTPSession
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from inframind.lib.cid import parse_cid
from inframind.storage.errors import ReferenceRefused
from inframind.storage.guard import UrlRefused, check_public_url
from inframind.storage.tar import READ_BYTES, Readable

MAX_REDIRECTS: Final = 5
CONNECT_TIMEOUT_SECONDS: Final = 5.0
SILENCE_TIMEOUT_SECONDS: Final = 15.0
TIME_LIMIT_SECONDS: Final = 300.0
MAX_REFERENCE_CHARACTERS: Final = 400

_ARWEAVE_ID: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_OCI_HOST: Final = r"[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?(?::[0-9]{1,5})?"
_OCI_PART: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_OCI: Final = re.compile(
    rf"(?P<name>{_OCI_HOST}(?:/{_OCI_PART})+)(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    r"@(?P<digest>sha256:[0-9a-f]{64})",
    re.ASCII,
)


class ReferenceKind(StrEnum):
    """Where a reference points to; the value is its scheme."""

    IPFS = "ipfs"
    ARWEAVE = "ar"
    HTTPS = "https"
    OCI = "oci"


@dataclass(frozen=True, slots=True)
class Reference:
    """A checked reference. `target` is the CID, transaction id, URL or image name with digest."""

    kind: ReferenceKind
    target: str

    def __str__(self) -> str:
        return self.target if self.kind is ReferenceKind.HTTPS else f"{self.kind}://{self.target}"


@dataclass(frozen=True, slots=True)
class Gateways:
    """Base URLs of the gateways that find content for this server; empty where there is none."""

    arweave: str = ""


def parse_reference(text: str) -> Reference:
    """Reads `ipfs://<CID>`, `ar://<txid>`, `https://…` or `oci://host/name@sha256:…`.

    Raises ReferenceRefused with the remedy. Nothing is looked up.
    """
    if len(text) > MAX_REFERENCE_CHARACTERS:
        raise ReferenceRefused(f"A reference has at most {MAX_REFERENCE_CHARACTERS} characters.")
    scheme, separator, rest = text.strip().partition("://")
    if not separator or scheme not in set(ReferenceKind):
        raise ReferenceRefused(
            f"{text!r} is no reference to a package. Write ipfs://<CID>, ar://<transaction id>, "
            "https://… or oci://host/name@sha256:…."
        )
    match ReferenceKind(scheme):
        case ReferenceKind.IPFS:
            return Reference(ReferenceKind.IPFS, _cid_text(rest))
        case ReferenceKind.ARWEAVE:
            if _ARWEAVE_ID.fullmatch(rest) is None:
                raise ReferenceRefused(
                    f"{rest[:80]!r} is no Arweave transaction id: it has 43 letters, digits, - "
                    "and _."
                )
            return Reference(ReferenceKind.ARWEAVE, rest)
        case ReferenceKind.HTTPS:
            return Reference(ReferenceKind.HTTPS, _https_url(text.strip()))
        case ReferenceKind.OCI:
            image = _OCI.fullmatch(rest)
            if image is None:
                raise ReferenceRefused(
                    f"{text!r} is no image with a digest. A tag can move, so name the digest: "
                    "oci://registry.example.org/name@sha256:<64 hex digits>."
                )
            return Reference(ReferenceKind.OCI, f"{image['name']}@{image['digest']}")


@contextlib.contextmanager
def open_reference(
    uri: str,
    *,
    gateways: Gateways,
    allow_loopback: bool,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
) -> Iterator[Readable]:
    """Gives the bytes behind an `ar://` or `https://` reference, to be read once.

    Every hop must pass the guard (`allow_loopback` lets this machine pass, and plain http there).
    Raises ReferenceRefused, on reading too. What the bytes are is for the reader to check.
    """
    reference = parse_reference(uri)
    if reference.kind is ReferenceKind.ARWEAVE:
        if not gateways.arweave:
            raise ReferenceRefused(
                "This server has no Arweave gateway (ARWEAVE_GATEWAY). Upload the package, or give "
                "an https:// reference."
            )
        url = f"{gateways.arweave.rstrip('/')}/{reference.target}"
    elif reference.kind is ReferenceKind.HTTPS:
        url = reference.target
    else:
        raise ReferenceRefused(
            f"{reference.kind}:// references are recorded, not fetched. Upload the package, or "
            "give an ar:// or https:// reference to its tar archive."
        )
    deadline = time.monotonic() + time_limit_seconds
    with _session(allow_loopback) as session:
        response = _follow(session, url, allow_loopback=allow_loopback, deadline=deadline)
        with response:
            yield _Body(response.raw, deadline)


def _session(allow_loopback: bool) -> HTTPSession:
    # The adapter resolves once, checks, and connects to that very address: no rebinding in between.
    session = HTTPSession(
        Config(
            ip_filter_enable=True,
            ip_filter_allow_loopback_ips=allow_loopback,
            never_redirect=True,
            default_timeout=(CONNECT_TIMEOUT_SECONDS, SILENCE_TIMEOUT_SECONDS),
            user_agent_override="inframind",
        )
    )
    # A proxy from the environment would connect in our place, unchecked.
    session.trust_env = False
    return session


def _follow(
    session: HTTPSession, url: str, *, allow_loopback: bool, deadline: float
) -> requests.Response:
    """Returns the 200 answer at the end of the redirects, its body unread."""
    for _ in range(MAX_REDIRECTS + 1):
        try:
            resolved = check_public_url(url, allow_loopback=allow_loopback)
        except UrlRefused as error:
            raise ReferenceRefused(str(error)) from error
        if resolved.scheme != "https" and not all(a.is_loopback for a in resolved.addresses):
            raise ReferenceRefused(f"{url} is not https. Packages are fetched over https only.")
        if time.monotonic() > deadline:
            raise _too_slow()
        try:
            response: requests.Response = session.get(
                url, stream=True, headers={"Accept-Encoding": "identity"}
            )
        except (requests.RequestException, HTTPError, ValueError) as error:
            raise ReferenceRefused(
                f"{url} cannot be fetched: {_why(error)}. Check that it is public and try again."
            ) from error
        if not response.is_redirect:
            break
        url = urljoin(url, response.headers["Location"])
        response.close()
        session.cookies.clear()
    else:
        raise ReferenceRefused(
            f"The reference redirects more than {MAX_REDIRECTS} times. Give the final address."
        )
    if response.status_code != requests.codes.ok:
        response.close()
        raise ReferenceRefused(
            f"{url} answered {response.status_code}, not 200. Check that it is public."
        )
    return response


def _why(error: Exception) -> str:
    """What went wrong in a publisher's words; the libraries' own are about their objects."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate or encryption cannot be trusted"
    if isinstance(error, requests.Timeout):
        return "the host did not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "the host refused or broke the connection"
    return str(error)


class _Body:
    """The body as a stream whose every read is held to the deadline."""

    def __init__(self, raw: BaseHTTPResponse, deadline: float) -> None:
        self._raw = raw
        self._deadline = deadline

    def read(self, size: int = READ_BYTES, /) -> bytes:
        if time.monotonic() > self._deadline:
            raise _too_slow()
        try:
            return self._raw.read1(size, decode_content=False)
        except (HTTPError, OSError) as error:
            raise ReferenceRefused(
                f"The download broke off: {error}. Try again, or choose another host."
            ) from error


def _https_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or parts.fragment or re.search(r"[\s\\\x00-\x1f]", text):
        raise ReferenceRefused(
            f"{text!r} is no plain https URL: it names a host and has no user, spaces or fragment."
        )
    return text


def _cid_text(text: str) -> str:
    try:
        return str(parse_cid(text))
    except ValueError as error:
        raise ReferenceRefused(str(error)) from error


def _too_slow() -> ReferenceRefused:
    return ReferenceRefused("The download took too long. Choose a faster host, or upload it.")
