"""Every metric, declared once: name, kind, unit, labels, buckets, help.

The recorder, the exporters, `docs/reference/metrics.md` and the tests all start from here.

No label value comes from a client. They are fixed here (status codes, reasons),
known when the server starts (models, methods, workers), names in a model's file
(features), or facts about the server in one sample of an info metric.
"""

from ranker.metrics.catalogue import models, processes, requests
from ranker.metrics.catalogue.buckets import *
from ranker.metrics.catalogue.labels import *
from ranker.metrics.catalogue.models import *
from ranker.metrics.catalogue.processes import *
from ranker.metrics.catalogue.requests import *
from ranker.metrics.metric import Metric

METRICS: tuple[Metric, ...] = tuple(
    value
    for part in (requests, models, processes)
    for value in vars(part).values()
    if isinstance(value, Metric)
)
"""All of them, in the order of declaration."""
