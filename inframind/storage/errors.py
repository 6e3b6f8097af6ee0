"""What can go wrong with stored content, each with the words that a person can act on."""


class StorageError(Exception):
    """Ground of every error that this package raises on purpose."""


class PackageRejected(StorageError):
    """An uploaded package breaks a rule; nothing of it was kept.

    `code` is stable for programs, `message` says what happened, `remedy` what to do, `member`
    names the offending path in the archive where there is one.
    """

    def __init__(self, code: str, message: str, remedy: str, member: str | None = None) -> None:
        super().__init__(f"{message} {remedy}")
        self.code = code
        self.message = message
        self.remedy = remedy
        self.member = member


class CidMismatch(StorageError):
    """A package was read whole, but its content has another CID than the declared one."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(
            f"The package hashes to {actual}, not to the declared {expected}. Nothing was kept. "
            "Declare the CID of this content, or send the content of that CID."
        )
        self.expected = expected
        self.actual = actual


class HashMismatch(StorageError):
    """Stored bytes are not the bytes that their CID names; they must not be used."""

    def __init__(self, cid: str, reason: str = "its bytes hash to something else") -> None:
        super().__init__(
            f"The stored block {cid} is damaged: {reason}. Publish the same package again to "
            "repair it."
        )
        self.cid = cid


class ContentNotFound(StorageError, LookupError):
    """The store has no such package, or the package has no such file."""


class ContentTooLarge(StorageError):
    """A file is larger than the reader allows."""

    def __init__(self, path: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{path} has {size_bytes} bytes, at most {limit_bytes} are read here. Make it smaller."
        )
        self.path = path
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class StoreUnavailable(StorageError):
    """The store does not answer, or answers with an error; the same call may work later."""


class KeyUnreadable(StoreUnavailable):
    """A sealed package cannot be opened before the operator has put its key right."""


class ReferenceRefused(StorageError, ValueError):
    """A package reference cannot be read or fetched, for a reason that its author can act on."""
