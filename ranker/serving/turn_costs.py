"""What a turn of the loop takes, by how many lists it has.

It is no straight line: the lists of a small turn come one after the other, and each takes polls of
its own; those of a large turn come together. So averages are kept for turns of about as many lists
(1, 2 to 3, 4 to 7 and so on), and what was learned of large turns stays while there are small ones.
"""

from __future__ import annotations

from ranker.serving.cost import CostModel

_SMALL_PART = 1 / 8
"""A turn is full if its fixed cost is at most so small a part of what its lists add."""

_MEMORY = 0.999
"""Weight of the past at each turn: in the last thousand there are longer and shorter ones."""

_TURNS = 2000
"""An average is of so many turns, about."""

_KNOWN = 20
"""Of so many turns an average tells something."""

_LOOK_EVERY = 20
"""Turns of a size between two looks at whether those of the largest turns are others."""

_OTHER_LISTS = 1.5
"""If a list of the largest turns takes so many times what one of smaller turns takes, the lists are
others than they were: in large turns they take less."""


class _Size:
    """Turns of about as many lists: how many there were, and their averages."""

    __slots__ = ("lists", "seconds", "turns")

    def __init__(self) -> None:
        self.turns = 0
        self.lists = self.seconds = 0.0

    @property
    def each(self) -> float:
        """Seconds for a list."""
        return self.seconds / self.lists

    def add(self, lists: float, seconds: float) -> None:
        self.turns = turns = self.turns + 1
        part = 1.0 / (turns if turns < _TURNS else _TURNS)
        self.lists += part * (lists - self.lists)
        self.seconds += part * (seconds - self.seconds)


class TurnCosts:
    """Learns what turns take.

    Args:
        outlier: a turn that takes so many times what is predicted was held up: nothing is
            learned of it.

    Attributes:
        known: whether any size is.
    """

    def __init__(self, outlier: float) -> None:
        self._outlier = outlier
        self._sizes: dict[int, _Size] = {}
        self._known: list[_Size] = []
        self.known = False
        self._trend = CostModel(_MEMORY, outlier)

    def observe(self, lists: float, seconds: float, predicted: float) -> None:
        """Learns from a turn that had at least one list.

        Args:
            lists: how many it had.
            seconds: what it took.
            predicted: what `predict` said.
        """
        kind = int(lists).bit_length()
        size = self._sizes.get(kind)
        if size is None:
            size = self._sizes[kind] = _Size()
        if size.turns >= _KNOWN and seconds > self._outlier * predicted:
            return
        self._trend.observe(lists, seconds)
        size.add(lists, seconds)
        if size.turns == _KNOWN or (size.turns > _KNOWN and size.turns % _LOOK_EVERY == 0):
            self._look(kind, size)

    def _look(self, kind: int, size: _Size) -> None:
        """Sees whether a size is new, or its lists are others than those of the largest turns."""
        largest = self._known[-1] if self._known else size
        if size.each * _OTHER_LISTS < largest.each:
            self._trend = CostModel(_MEMORY, self._outlier)
            self._sizes = {kind: size}
        known = (each for each in self._sizes.values() if each.turns >= _KNOWN)
        self._known = sorted(known, key=lambda each: each.lists)
        self.known = True

    def predict(self, lists: float) -> float:
        """Seconds that a turn with so many lists takes; 0 before any size is known.

        Between sizes that are known it is on the line through both; beyond them each list adds
        what it adds among the latest turns.
        """
        below = None
        for size in self._known:
            if size.lists >= lists:
                if below is None:
                    return max(0.0, size.seconds - self._trend.per_row * (size.lists - lists))
                part = (lists - below.lists) / (size.lists - below.lists)
                return below.seconds + part * (size.seconds - below.seconds)
            below = size
        return below.seconds + self._trend.per_row * (lists - below.lists) if below else 0.0

    def full(self, most: float) -> float:
        """How many lists fill a turn: as many as the largest turns that are known, or more.

        Args:
            most: not more than so many.
        """
        if not self._known:
            return most
        each = self._trend.per_row
        enough = self._trend.fixed / (_SMALL_PART * each) if each else 0.0
        return min(most, max(self._known[-1].lists, enough))
