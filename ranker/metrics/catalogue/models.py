"""Metrics of the models: which are served, who is ranked by which, how they compare."""

from __future__ import annotations

from ranker.metrics.catalogue.buckets import DEVIATIONS, RANK_DISTANCES, SHARES
from ranker.metrics.catalogue.labels import (
    FEATURE,
    MODEL,
    MODEL_NAME,
    MOST_LABELS,
    OUTCOME,
    SHADOW,
    SHADOW_DROPPED_REASON,
    WORKER,
)
from ranker.metrics.metric import Across, Kind, Metric

SPLIT_REQUESTS = Metric(
    "ranker_split_requests_total",
    Kind.COUNTER,
    "requests",
    "Ranking requests that named no version and got this one by a split of the traffic.",
    by=(MODEL,),
)
SPLIT_SHARE = Metric(
    "ranker_split_share_ratio",
    Kind.GAUGE,
    "1",
    "The share of the units that a split of the traffic gives to this version, as configured. "
    "Absent where the traffic is not split.",
    by=(MODEL,),
    derived=True,
)
SPLIT_UNITS = Metric(
    "ranker_split_units",
    Kind.GAUGE,
    "units",
    "The units that have got this version, each once, among a sample of at most 4096 units that "
    "have asked since the split is as it is.",
    by=(MODEL,),
    derived=True,
)
SPLIT_P_VALUE = Metric(
    "ranker_split_p_value",
    Kind.GAUGE,
    "1",
    "How probable it is that the shares of the sampled units are so far off the configured ones "
    "by chance. Absent below 1000 units, and where fewer than 5 are expected for a version.",
    by=(MODEL_NAME,),
    derived=True,
)
GUARD_ROLLBACKS = Metric(
    "ranker_guard_rollbacks_total",
    Kind.COUNTER,
    "rollbacks",
    "How often the guard has moved this version's share of the traffic back to `stable`.",
    by=(MODEL,),
)
MODEL_LOADS = Metric(
    "ranker_model_loads_total",
    Kind.COUNTER,
    "loads",
    "Attempts to load a model, in every worker. One that can't even be read counts once for all of "
    "them, and as `unknown`.",
    by=(MODEL, OUTCOME),
)
MODEL_LOAD_DURATION = Metric(
    "ranker_model_load_duration_seconds",
    Kind.GAUGE,
    "seconds",
    "Time that the last load of a model took, in the slowest worker.",
    by=(MODEL,),
    across=Across.MAX,
)
MODEL_GENERATION = Metric(
    "ranker_model_generation",
    Kind.GAUGE,
    "generations",
    "Number of the set of models that is served: it goes up at each switch, and by one more for "
    "each switch that failed.",
)
MODEL_SWITCHES = Metric(
    "ranker_model_switches_total",
    Kind.COUNTER,
    "switches",
    "Attempts to serve another set of models.",
    by=(OUTCOME,),
)
MODEL_INFO = Metric(
    "ranker_model_info",
    Kind.INFO,
    "1",
    "A model that is served, and the engine that scores it.",
    by=(MODEL,),
    texts=("engine", "reason", "trees", "depth", "features", "objective", "output"),
)
SHADOW_LISTS = Metric(
    "ranker_shadow_lists_total",
    Kind.COUNTER,
    "lists",
    "Lists that a version ranked and its shadow scored too; those of the histograms below.",
    by=(MODEL, SHADOW),
)
SHADOW_DROPPED = Metric(
    "ranker_shadow_dropped_total",
    Kind.COUNTER,
    "lists",
    "Lists that were to be scored by a shadow and were not: the worker had no time to spare "
    "(`busy`) or was short of `memory`, the shadow's `columns` are others, its engine `failed`, or "
    "the worker `stopped` to serve these models while they waited.",
    by=(MODEL, SHADOW, SHADOW_DROPPED_REASON),
)
SHADOW_OVERLAP = Metric(
    "ranker_shadow_overlap_ratio",
    Kind.HISTOGRAM,
    "1",
    "Share of a list's ten best candidates that are among the shadow's ten best; of a shorter "
    "list, of all.",
    by=(MODEL, SHADOW),
    buckets=SHARES,
)
SHADOW_DISTANCE = Metric(
    "ranker_shadow_rank_distance",
    Kind.HISTOGRAM,
    "1",
    "1 less Kendall's tau-b of a list's scores and the shadow's: 0 is the same order, 1 no "
    "relation, 2 the reverse. Without lists that either scores all alike.",
    by=(MODEL, SHADOW),
    buckets=RANK_DISTANCES,
)
SHADOW_SHIFT = Metric(
    "ranker_shadow_score_shift",
    Kind.HISTOGRAM,
    "1",
    "By how much the shadow's scores of a list differ: the mean absolute difference, in standard "
    "deviations of the list's own scores. Without lists whose own are all alike.",
    by=(MODEL, SHADOW),
    buckets=DEVIATIONS,
)
SHADOW_BUSY = Metric(
    "ranker_shadow_busy_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time that a worker spent on shadows; it had nothing else to do, so that no other metric has "
    "this time as work.",
    by=(WORKER,),
)
DRIFT_FEATURE_PSI = Metric(
    "ranker_drift_feature_psi",
    Kind.GAUGE,
    "1",
    "Population stability index of a feature: how far the candidates of the last hour or so are "
    "from the training data. 0: not at all; from 0.25 on, far. Of the 50 features of a version "
    "that drift most; absent without a reference in the model's file, and below 200 counted lists.",
    by=(MODEL, FEATURE),
    derived=True,
)
DRIFT_FEATURE_MISSING = Metric(
    "ranker_drift_feature_missing_ratio",
    Kind.GAUGE,
    "1",
    "Share of the counted candidates that have no value of a feature; of the same features, or, "
    "without a reference, of the 50 that are missing most.",
    by=(MODEL, FEATURE),
    derived=True,
)
DRIFT_SCORE_PSI = Metric(
    "ranker_drift_score_psi",
    Kind.GAUGE,
    "1",
    "Population stability index of a version's scores.",
    by=(MODEL,),
    derived=True,
)
DRIFT_ROWS = Metric(
    "ranker_drift_rows",
    Kind.GAUGE,
    "candidates",
    "Candidates that were counted for that, each weighing half as much after a quarter of an hour.",
    by=(MODEL,),
    derived=True,
)
MODEL_LABEL_INFO = Metric(
    "ranker_model_label_info",
    Kind.INFO,
    "1",
    f"A label that names this version now; of one with more than {MOST_LABELS}, the first ones.",
    by=(MODEL,),
    texts=("label",),
    copies=MOST_LABELS,
)
