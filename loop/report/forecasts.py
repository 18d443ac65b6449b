"""What the surrogates of a campaign said about each request before its label was known.

The log names the model that was in force when a request was made, and the run directory keeps every model, so the
forecasts are made again from them, one step ahead of the labels, exactly as the campaign saw them.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ...generators.base import Evaluation
from ...surrogates.settings import load_surrogate
from ..store.blobs import MODELS_FOLDER, BlobStore
from .record import CampaignRecord, Forecast

_MAX_MODELS = 150
"""Models read; of more, an even sample, so that the report of a long campaign is written within seconds."""


def forecasts_of(record: CampaignRecord) -> list[Forecast]:
    """Forecasts of the labelled requests that a surrogate preceded, in order of the evaluations.

    Raises:
        RunDirectoryError: a model that the log names is missing or damaged.
        SurrogateError: a model file cannot be read.
    """
    by_model: dict[str, list[Evaluation]] = defaultdict(list)
    for evaluation in record.labelled:
        if evaluation.request_id in record.model_of:
            by_model[record.model_of[evaluation.request_id]].append(evaluation)
    names = list(by_model)
    chosen = {names[i] for i in np.linspace(0, len(names) - 1, min(len(names), _MAX_MODELS)).astype(int)}
    models = BlobStore(record.folder / MODELS_FOLDER)
    found: dict[str, Forecast] = {}
    for name in sorted(chosen):
        surrogate = load_surrogate(models.path(name))
        properties = list(surrogate.spec.properties)
        if record.objective.property not in properties:
            continue
        column = properties.index(record.objective.property)
        prediction = surrogate.predict([e.candidate.atoms for e in by_model[name]])
        for evaluation, mean, std in zip(
            by_model[name], prediction.mean[:, column], prediction.std[:, column], strict=True
        ):
            found[evaluation.request_id] = Forecast(evaluation.request_id, float(mean), float(std))
    return [found[e.request_id] for e in record.labelled if e.request_id in found]
