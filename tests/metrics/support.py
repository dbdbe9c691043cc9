from ranker.metrics.aggregates import Layout
from ranker.metrics.families import Distribution, Family
from ranker.metrics.metric import Metric

RANK = "/ranker.v1.RankingService/Rank"
LAYOUT = Layout(
    models=(("books", "1"), ("films", "2024-05")),
    methods=(RANK, "/ranker.v1.RankingService/RankStream"),
)


def value(families: list[Family], metric: Metric, *labels: str) -> float | Distribution:
    """The one sample of `metric` with these label values."""
    [family] = [family for family in families if family.metric is metric]
    [found] = [sample.value for sample in family.samples if sample.labels == labels]
    return found


def nonzero(families: list[Family]) -> dict[str, dict[tuple[str, ...], float]]:
    """Everything that was counted: histograms by their number of observations."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in families:
        for sample in family.samples:
            number = sample.value.count if isinstance(sample.value, Distribution) else sample.value
            if number:
                found.setdefault(family.metric.name, {})[sample.labels] = number
    return found
