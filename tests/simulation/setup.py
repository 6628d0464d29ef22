"""What one seed is made of: how many, how often, how fast."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Setup:
    """How one seed is set up. Every trouble is absent from some seeds, so that what it hides is found too."""

    workers: int
    events: int
    keys: int
    page: int
    concurrency: int
    attempts: int
    lease: float
    max_lanes: int
    max_parked: int
    inbox: bool
    plain: bool
    fold: bool
    stay: float
    crashes: float
    freezes: float
    naps: float
    trouble: float
    deafness: float
    poison: float
    people: int
    pace: float
    slowness: float
    rebuilds: float
    deploys: float
    skew: float

    @classmethod
    def draw(cls, random: Random) -> Setup:
        def some(most: float, share: float = 0.6) -> float:
            return random.uniform(0, most) if random.random() < share else 0.0

        inbox = random.random() < 0.5
        plain = not inbox or random.random() < 0.2
        return cls(
            workers=random.choice((1, 2, 2, 3)),
            events=random.randint(4, 40),
            keys=random.randint(1, 6),
            page=random.randint(1, 8),
            concurrency=random.randint(1, 3),
            attempts=random.randint(1, 3),
            lease=random.choice((0.5, 1.0, 2.0)),
            max_lanes=random.choice((1, 2, 100, 100)),
            max_parked=random.choice((2, 5, 100, 100, 100)),
            inbox=inbox,
            plain=plain,
            fold=random.random() < 0.4,
            stay=random.choice((0.2, 0.6, 0.9)),
            crashes=some(0.02),
            freezes=some(0.01),
            naps=some(0.02),
            trouble=some(0.04, 0.4),
            deafness=some(1.0, 0.5),
            poison=some(0.8, 0.8),
            people=random.choice((0, 1, 1, 2)),
            pace=random.uniform(1.0, 10.0),
            slowness=some(0.6),
            rebuilds=some(1.0, 0.5),
            deploys=some(1.0, 0.4),
            skew=some(1.0, 0.3),
        )
