"""Is the new ranker better, and why: evaluations of rankers on labelled queries."""

from ranker.quality.data import RankingData
from ranker.quality.evaluate import evaluate
from ranker.quality.evaluation import Evaluation
from ranker.quality.gate import Gate
from ranker.quality.metrics import Metric
from ranker.quality.readers import Columns, read_data

__all__ = ["Columns", "Evaluation", "Gate", "Metric", "RankingData", "evaluate", "read_data"]
