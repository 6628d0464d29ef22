"""What a sample says of all rows, against tables of statistics and by drawing again and again."""

from random import Random

import pytest

from everlog.core.envelope import FoldKey
from everlog.projection.sample import Draw, share_differing


@pytest.mark.parametrize(
    ("drawn", "differing", "lower", "upper"),
    [
        (0, 0, 0.0, 1.0),
        (1, 0, 0.0, 0.95),
        (59, 0, 0.0, 0.04951),
        (299, 0, 0.0, 0.00997),
        (1000, 0, 0.0, 0.002991),
        (10, 1, 0.00253, 0.44502),  # Clopper and Pearson, as R's binom.test gives it
        (100, 3, 0.00623, 0.08518),
        (1000, 500, 0.46854, 0.53146),
        (5, 5, 0.47818, 1.0),
        (1, 1, 0.025, 1.0),
    ],
)
def test_the_bounds_are_exact(drawn: int, differing: int, lower: float, upper: float) -> None:
    assert share_differing(drawn, differing) == pytest.approx((lower, upper), abs=5e-5)


def test_a_large_sample_gives_bounds_too() -> None:
    lower, upper = share_differing(2_000_000, 40)
    assert 0 < lower < 20e-6 < upper < 40e-6


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2])
def test_the_bounds_hold_as_often_as_they_say(share: float) -> None:
    random, held = Random(7), 0
    keys = [FoldKey("acme", f"k{number}") for number in range(1000)]
    wrong = set(random.sample(keys, int(share * len(keys))))
    for seed in range(300):
        drawn = Draw(50, seed).of(keys)
        assert len(set(drawn)) == 50
        lower, upper = share_differing(50, len(wrong.intersection(drawn)))
        held += lower <= share <= upper
    assert held >= 0.95 * 300 - 10  # so few that chance is no excuse


def test_every_key_is_drawn_as_often_as_any_other() -> None:
    keys = [FoldKey(tenant, f"k{number}") for tenant in ("acme", "globex") for number in range(20)]
    drawn = dict.fromkeys(keys, 0)
    for seed in range(2000):
        for key in Draw(10, seed).of([*keys, *keys[:7]]):
            drawn[key] += 1
    assert all(400 <= count <= 600 for count in drawn.values()), drawn  # 500 and five times its deviation


def test_the_limit_tells_which_keys_can_be_drawn() -> None:
    keys = [FoldKey("acme", f"k{number}") for number in range(100)]
    draw = Draw(10, 3)
    wanted = draw.wanted(draw.limit(keys))
    assert sorted(filter(wanted, keys)) == sorted(draw.of(keys))
    assert draw.limit(keys[:9]) is None
    assert all(map(draw.wanted(None), keys))
