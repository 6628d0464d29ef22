"""Any order in which events may reach a process: each stream in its own, the streams mixed, and some of it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from everlog import Recorded

Stream = Sequence[Recorded[Any]]


@st.composite
def any_order(draw: st.DrawFn, *streams: Stream) -> list[Recorded[Any]]:
    left = [list(stream) for stream in streams if stream]
    mixed: list[Recorded[Any]] = []
    while left:
        stream = draw(st.sampled_from(left))
        mixed.append(stream.pop(0))
        left = [one for one in left if one]
    for again in draw(st.lists(st.sampled_from(mixed), max_size=5)) if mixed else ():
        first = mixed.index(again)
        mixed.insert(draw(st.integers(first + 1, len(mixed))), again)
    return mixed
