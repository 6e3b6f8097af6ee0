"""What a row of a call that a test writes by hand has in place of a batch and an epoch."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

UNSIGNED: Final[dict[str, Any]] = {
    "epoch": 0,  # that of calls from before there were balances
    "parameters_version": 0,
    "payout_address": "",
    "salt": b"",
    "batch_id": UUID(int=0),
    "batch_index": 0,
}
