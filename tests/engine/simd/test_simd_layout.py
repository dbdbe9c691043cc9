"""What the C extension checks by itself: a layout that is out of bounds is never walked."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from ranker.engine.simd import engine as simd
from ranker.engine.simd.layout import MAX_PLACES, Layout, lay_out
from ranker.forest import Forest
from tests.engine.simd.simd_forests import forest_from, random_forest, random_tree

pytestmark = pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))


def uneven_forest() -> Forest:
    return random_forest(np.random.default_rng(1), 5, 6, 100)


def kernel(layout: Layout) -> object:
    assert simd._extension is not None
    return simd._extension.Kernel(layout, "portable", 1)


def changed(layout: Layout, name: str, value: object) -> Layout:
    """The layout with its last value of one array replaced."""
    array: NDArray = getattr(layout, name).copy()
    assert array.size, f"{name} is empty: the case tests nothing"
    array.reshape(-1)[-1] = value
    return dataclasses.replace(layout, **{name: array})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("cut_feature", 6, id="feature-beyond-the-row"),
        pytest.param("cut_feature", -1, id="negative-feature"),
        pytest.param("cut_end", 1 << 30, id="thresholds-beyond-the-array"),
        pytest.param("cut_end", 0, id="thresholds-that-end-before-they-begin"),
        pytest.param("cut_columns", 1 << 20, id="cut-column"),
        pytest.param("split_column", 1 << 20, id="split-column"),
        pytest.param("split_column", -1, id="negative-split-column"),
        pytest.param("exits", np.int32(1 << 30).view(np.float32), id="exit-to-no-node"),
        pytest.param("rest", -1, id="negative-rest"),
        pytest.param("deep_column", 1 << 20, id="deep-column"),
        pytest.param("deep_left", 1 << 20, id="deep-child-beyond-the-nodes"),
        pytest.param("deep_left", -1, id="negative-deep-child"),
        pytest.param("deep_code", 0, id="deep-leaf-with-a-right-child-beyond-the-nodes"),
        pytest.param("step_column", 1 << 20, id="step-column"),
        pytest.param("level_end", 1 << 20, id="level-beyond-the-steps"),
        pytest.param("tree_levels", 1 << 20, id="tree-beyond-the-levels"),
    ],
)
def test_layouts_out_of_bounds_are_refused(name: str, value: object) -> None:
    layout = lay_out(uneven_forest())
    kernel(layout)
    with pytest.raises(ValueError, match=rf"layout\.({name}|thresholds|deep_left): out of bounds"):
        kernel(changed(layout, name, value))


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(Layout) if "NDArray" in str(field.type)]
)
def test_arrays_of_wrong_length_or_type_are_refused(name: str) -> None:
    layout = lay_out(uneven_forest())
    array: NDArray = getattr(layout, name)
    longer = np.append(array.reshape(-1), array.reshape(-1)[:1] if array.size else 0)
    with pytest.raises(ValueError, match=r"layout\."):
        kernel(dataclasses.replace(layout, **{name: longer.astype(array.dtype)}))
    with pytest.raises(ValueError, match=r"layout\."):
        kernel(dataclasses.replace(layout, **{name: np.zeros(array.shape, np.float64)}))


def test_deep_sparse_trees_are_not_padded() -> None:
    chains = random_forest(np.random.default_rng(2), 200, 10, 300, chain=True)
    layout = lay_out(chains)
    size = sum(value.nbytes for value in vars(layout).values() if isinstance(value, np.ndarray))
    assert layout.depth <= 6
    assert size < 60 * len(chains.feature)


@pytest.mark.parametrize(
    ("leaves", "has_steps"),
    [pytest.param(100, True, id="few-leaves"), pytest.param(2000, False, id="too-many-leaves")],
)
def test_steps_only_where_places_fit_in_a_byte(leaves: int, has_steps: bool) -> None:
    layout = lay_out(random_forest(np.random.default_rng(3), 4, 6, leaves))
    assert (len(layout.step_to) > 0) == has_steps
    assert layout.places.size <= 4 * MAX_PLACES


@pytest.mark.parametrize(
    ("leaves", "chain"), [pytest.param(256, False, id="bushy"), pytest.param(200, True, id="chain")]
)
def test_one_large_tree_does_not_pad_many_small_ones(leaves: int, chain: bool) -> None:
    rng = np.random.default_rng(4)
    thresholds = np.ones(1, np.float32)
    small = [random_tree(rng, 1, 3, thresholds, chain=False)] * 30_000
    forest = forest_from([*small, random_tree(rng, leaves, 3, thresholds, chain)], 3)
    layout = lay_out(forest)
    size = sum(value.nbytes for value in vars(layout).values() if isinstance(value, np.ndarray))
    assert size < 400 * len(forest.roots)


def test_unknown_path_is_refused() -> None:
    assert simd._extension is not None
    with pytest.raises(ValueError, match="not one of paths"):
        simd._extension.Kernel(lay_out(uneven_forest()), "mmx", 1)


@pytest.mark.parametrize("threads", [-1, 0, 1025])
def test_threads_out_of_range_are_refused(threads: int) -> None:
    assert simd._extension is not None
    with pytest.raises(ValueError, match="threads: expected 1 to 1024"):
        simd._extension.Kernel(lay_out(uneven_forest()), "portable", threads)
