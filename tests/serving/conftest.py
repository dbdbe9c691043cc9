from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.serving.support import Serving


@pytest.fixture
def serving() -> Iterator[Callable[..., Serving]]:
    """Makes all of serving but a transport; takes what `Serving` takes."""
    made: list[Serving] = []

    def make(*engines, **limits) -> Serving:
        made.append(Serving(*engines, **limits))
        return made[-1]

    yield make
    for each in made:
        each.close()
