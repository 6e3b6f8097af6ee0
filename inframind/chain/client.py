"""What is asked of the chain, over JSON-RPC: code of an address, and calls that change nothing."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from web3 import Web3

TIMEOUT_SECONDS: Final = 5


class ChainUnavailable(Exception):
    """The node does not answer, answers nonsense, or is on another chain. Says which."""


class CallReverted(Exception):
    """The contract refused the call."""


class Chain:
    """One JSON-RPC endpoint, which has to be on chain ``chain_id``; every call raises
    ``ChainUnavailable``."""

    def __init__(self, rpc_url: str, chain_id: int) -> None:
        self._chain_id = chain_id
        self._known_chain = False
        self._web3 = _connect(rpc_url)

    def code_at(self, address: str) -> bytes:
        """The code of a checksummed address: empty for what is no contract."""
        self._require_chain()
        return bytes(self._ask(lambda web3: web3.eth.get_code(address)))

    def call(self, address: str, data: bytes) -> bytes:
        """What a contract answers to this call data. Raises ``CallReverted`` where it refuses."""
        self._require_chain()
        return bytes(self._ask(lambda web3: web3.eth.call({"to": address, "data": data})))

    def _require_chain(self) -> None:
        if self._known_chain:
            return
        found = int(self._ask(lambda web3: web3.eth.chain_id))
        if found != self._chain_id:
            raise ChainUnavailable(f"the node is on chain {found}, not on chain {self._chain_id}")
        self._known_chain = True

    def _ask(self, question: Any) -> Any:
        from requests.exceptions import RequestException
        from web3.exceptions import ContractLogicError, Web3Exception, Web3RPCError

        try:
            return question(self._web3)
        except ContractLogicError as error:
            raise CallReverted(str(error)) from None
        except Web3RPCError as error:
            if "revert" in str(error).lower():
                raise CallReverted(str(error)) from None
            raise ChainUnavailable(f"the node refused the question: {error}") from None
        except (Web3Exception, RequestException, ValueError, OSError) as error:
            raise ChainUnavailable(f"{type(error).__name__}: {error}") from None


@lru_cache(maxsize=4)
def chain_at(rpc_url: str, chain_id: int) -> Chain:
    """The endpoint's client, one for the process."""
    return Chain(rpc_url, chain_id)


def _connect(rpc_url: str) -> Web3:
    # Imported on first use: it takes seconds, and a library below it lifts Python's recursion limit
    # for the whole process, which is put back here.
    limit = sys.getrecursionlimit()
    from web3 import HTTPProvider, Web3

    sys.setrecursionlimit(limit)
    provider = HTTPProvider(
        rpc_url,
        request_kwargs={"timeout": TIMEOUT_SECONDS},
        exception_retry_configuration=None,
    )
    return Web3(provider)
