"""Random lives of a settlement beside a model of it: the books of the contract always add up."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.billing.contracts.onchain import FAR, Contracts, Leaf, Tree, stream
from tests.chains import DevChain

CHALLENGE = 1000
STREAMS = [stream("model:one"), stream("node:two")]

amounts = st.integers(1, 100)
whom = st.integers(0, 2)
which = st.integers(0, 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("deposit"), whom, amounts),
        st.tuples(st.just("earn"), whom, which, amounts),
        st.tuples(st.just("propose"), st.integers(-3, 3)),
        st.tuples(st.just("revoke")),
        st.tuples(st.just("wait")),
        st.tuples(st.just("claim"), whom, which),
        st.tuples(st.just("withdraw"), whom, amounts),
        st.tuples(st.just("stray"), amounts),
    ),
    min_size=8,
    max_size=16,
)


@dataclass
class Root:
    epoch: int
    total: int
    leaves: dict[tuple[int, int], int]


@dataclass
class Model:
    """What the settlement should hold and owe, kept the slow and obvious way."""

    deposited: int = 0
    stray: int = 0
    earned: dict[tuple[int, int], int] = field(default_factory=dict)
    paid: dict[tuple[int, int], int] = field(default_factory=dict)
    withdrawn: dict[int, int] = field(default_factory=dict)
    current: Root = field(default_factory=lambda: Root(0, 0, {}))
    pending: Root | None = None

    @property
    def claimed(self) -> int:
        return sum(self.paid.values())

    @property
    def held(self) -> int:
        return self.deposited - self.claimed - sum(self.withdrawn.values())

    @property
    def unclaimed(self) -> int:
        return (self.pending or self.current).total - self.claimed


class Life:
    """One settlement and its model; every step is done to both, or refused by both."""

    def __init__(self, chain: DevChain) -> None:
        self.contracts = Contracts.fresh(chain, challenge=CHALLENGE)
        self.accounts = [str(each.address) for each in chain.accounts[:3]]
        self.model = Model()
        self.contracts.sent(
            self.contracts.ifm.functions.approve(self.contracts.address, 2**256 - 1),
            self.contracts.operator,
        )

    def do(self, name: str, *arguments: int) -> None:
        getattr(self, name)(*arguments)
        self.check()

    def deposit(self, account: int, amount: int) -> None:
        self.contracts.send("deposit", self.accounts[account], amount)
        self.model.deposited += amount

    def stray(self, amount: int) -> None:
        transfer = self.contracts.ifm.functions.transfer(self.contracts.address, amount)
        self.contracts.sent(transfer, self.contracts.operator)
        self.model.stray += amount

    def earn(self, account: int, id_: int, amount: int) -> None:
        earned = self.model.earned
        earned[account, id_] = earned.get((account, id_), 0) + amount

    def propose(self, lie: int) -> None:
        """``lie`` is how far the total is off the sum of the leaves, as by a wrong proposer."""
        model = self.model
        leaves = dict(model.earned) or {(0, 0): 1}
        epoch = (model.pending or model.current).epoch + 1
        tree = self.tree(leaves)
        total = max(0, tree.total + lie)
        call = ("proposeRoot", epoch, tree.root, total, "")
        if model.pending is not None:
            assert self.contracts.refuses(*call)[0] == "RootPending"
        elif total < model.current.total:
            assert self.contracts.refuses(*call) == ("TotalFell", total, model.current.total)
        elif total - model.claimed > model.held:
            assert self.contracts.refuses(*call) == (
                "Underfunded",
                total - model.claimed,
                model.held,
            )
        else:
            self.contracts.send(*call)
            model.pending = Root(epoch, total, leaves)

    def revoke(self) -> None:
        pending = self.model.pending
        if pending is None:
            epoch = self.model.current.epoch
            assert self.contracts.refuses("revokeRoot", epoch) == ("NotRevocable", epoch)
        else:
            self.contracts.send("revokeRoot", pending.epoch)
            self.model.pending = None

    def wait(self) -> None:
        self.contracts.at(self.contracts.now + CHALLENGE)
        if self.model.pending is not None:
            self.model.current, self.model.pending = self.model.pending, None

    def claim(self, account: int, id_: int) -> None:
        model, key = self.model, (account, id_)
        cumulative = model.current.leaves.get(key, 0)
        before = model.paid.get(key, 0)
        leaf = self.leaf(key, cumulative)
        if not cumulative:
            assert self.contracts.refuses("claim", *leaf, []) == ("InvalidProof", *leaf)
            return
        call = ("claim", *leaf, self.tree(model.current.leaves).proof(leaf))
        left = model.current.total - model.claimed
        if cumulative <= before:
            assert self.contracts.refuses(*call) == ("NothingToClaim", *leaf[:2], before)
        elif cumulative - before > left:
            assert self.contracts.refuses(*call) == ("TotalExceeded", cumulative - before, left)
        else:
            self.contracts.send(*call)
            model.paid[key] = cumulative

    def withdraw(self, account: int, amount: int) -> None:
        model, address = self.model, self.accounts[account]
        cumulative = model.withdrawn.get(account, 0) + amount
        call = ("withdraw", address, cumulative, FAR, self.contracts.voucher(address, cumulative))
        free = model.held - model.unclaimed
        if amount > free:
            assert self.contracts.refuses(*call) == ("InsufficientHoldings", amount, free)
        else:
            self.contracts.send(*call)
            model.withdrawn[account] = cumulative

    def check(self) -> None:
        model = self.model
        assert self.contracts.state() == {
            "tokens": model.held + model.stray,
            "totalDeposited": model.deposited,
            "totalClaimed": model.claimed,
            "totalWithdrawn": sum(model.withdrawn.values()),
            "held": model.held,
            "rootEpoch": model.current.epoch,
        }
        assert 0 <= model.unclaimed <= model.held

    def finish(self) -> None:
        """Every account has exactly what it claimed and withdrew."""
        for index, address in enumerate(self.accounts):
            claimed = sum(amount for (who, _), amount in self.model.paid.items() if who == index)
            withdrawn = self.model.withdrawn.get(index, 0)
            assert self.contracts.balance(address) == claimed + withdrawn

    def leaf(self, key: tuple[int, int], cumulative: int) -> Leaf:
        return (self.accounts[key[0]], STREAMS[key[1]], cumulative)

    def tree(self, leaves: dict[tuple[int, int], int]) -> Tree:
        return Tree([self.leaf(key, amount) for key, amount in leaves.items()])


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps)
def test_holdings_cover_what_is_unclaimed_whatever_happens(
    chain: DevChain, life: list[tuple[str, int]]
) -> None:
    with chain.undone_afterwards():
        living = Life(chain)
        living.do("deposit", 0, 100)
        for step in life:
            living.do(*step)
        living.finish()
