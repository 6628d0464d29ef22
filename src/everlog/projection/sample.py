"""Drawing keys, and what a sample says of all rows.

A key is drawn by its hash, under a seed. So rows that are stored and rows that should be have the same chance, a
deleted row as any other, and one look at the log finds which keys are drawn.
"""

import hashlib
import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from everlog.core.envelope import FoldKey

CONFIDENCE = 0.95
_STEPS = 60


@dataclass(frozen=True, slots=True)
class Draw:
    """The `count` keys whose hashes are smallest."""

    count: int
    seed: int

    def number(self, key: FoldKey) -> int:
        said = f"{key.tenant}/{key.key}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(said, digest_size=8, key=self.seed.to_bytes(8, "big")).digest(), "big")

    def limit(self, keys: Iterable[FoldKey]) -> int | None:
        """The greatest number that is drawn of these; `None` where all of them are, whatever else there is."""
        drawn = heapq.nsmallest(self.count, map(self.number, keys))
        return drawn[-1] if len(drawn) == self.count else None

    def wanted(self, limit: int | None) -> Callable[[FoldKey], bool]:
        """Which keys can be drawn at all, once `limit` is known of some."""
        return (lambda key: True) if limit is None else (lambda key: self.number(key) <= limit)

    def of(self, keys: Iterable[FoldKey]) -> list[FoldKey]:
        """The drawn ones of these, of which each is there once or twice."""
        return list(dict.fromkeys(heapq.nsmallest(2 * self.count, keys, key=self.number)))[: self.count]


def share_differing(drawn: int, differing: int) -> tuple[float, float]:
    """Which share of all rows differs, from below and above, with `CONFIDENCE`, however many rows there are.

    Exact (Clopper and Pearson); where none differs the error is all above: no row of 299 means at most 1 %.
    """
    if not drawn:
        return 0.0, 1.0
    error = 1 - CONFIDENCE if not differing else (1 - CONFIDENCE) / 2
    lower = 0.0 if not differing else _root(lambda share: 1 - _at_most(differing - 1, drawn, share) - error)
    upper = 1.0 if differing == drawn else _root(lambda share: error - _at_most(differing, drawn, share))
    return lower, upper


def _at_most(few: int, drawn: int, share: float) -> float:
    """How likely at most so few of those drawn differ, if that share of all does."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return 1.0 if few >= drawn else 0.0
    whole = math.lgamma(drawn + 1)
    return math.fsum(
        math.exp(
            whole - math.lgamma(n + 1) - math.lgamma(drawn - n + 1)
            + n * math.log(share) + (drawn - n) * math.log1p(-share)
        )
        for n in range(few + 1)
    )  # fmt: skip


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return high
