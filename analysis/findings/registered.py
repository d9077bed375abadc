"""What of a study a preregistration holds: the record that is written beforehand, and compared afterwards."""

from collections.abc import Mapping
from typing import Any

from analysis.findings.family import Contrast
from analysis.findings.rounds import Judgement
from analysis.reading.declaration import Inference
from analysis.reading.study import RecordedStudy


def registered(
    study: RecordedStudy, judgements: Mapping[Contrast, Judgement], *, settings: Inference
) -> dict[str, Any]:
    """Return what a study asks and how it is judged, as JSON: the keys of COMPARED.

    Seeds and looks are those of the contrasts that were declared first; the family is every contrast.
    """
    first = max((each.batch for each in judgements.values()), key=lambda batch: batch.alpha, default=None)
    planned = list(first.planned) if first else []
    return {
        "tasks": [study.task_a, study.task_b],
        "model": str(study.description.get("model", "unknown")),
        "measure": settings.primary,
        "baseline": study.baseline,
        "baseline_draws": settings.baseline_draws,
        "order": settings.order,
        "question": settings.question,
        "task_b_margin": settings.task_b_margin,
        "weights": {str(mix): weight for mix, weight in settings.weights.items()},
        "smallest_effect": settings.smallest_effect,
        "level": settings.level,
        "growth": settings.growth,
        "looks": planned,
        "seeds": list(first.seeds[: planned[-1]]) if first else [],
        "family": [contrast.describe() for contrast in judgements],
    }
