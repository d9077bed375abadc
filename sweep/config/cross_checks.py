"""What a study's sections must be together: each rule one function, which raises ValueError."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from analysis.stats.measures import MEASURES
from trainables.ledger.schema import AA, DEFAULT_BASELINE, TASKS
from trainables.replay.batch_order import replay_count
from trainables.replay.controls import CONTROLS
from trainables.replay.own import loaded
from trainables.replay.selection import LENGTH_MATCHED, find_strategy, reselects
from trainables.settings import PhaseBSettings, TrainingSettings
from trainables.tasks.registry import find_task
from trainables.tasks.scoring import SCORES
from trainables.tasks.watched import check_watched

if TYPE_CHECKING:
    from sweep.config.study import StudyConfig


def check_baseline(study: "StudyConfig") -> None:
    baseline, strategies = study.inference.baseline, study.search.strategy
    if baseline != DEFAULT_BASELINE and baseline not in strategies:
        raise ValueError(
            f"inference.baseline: must be one of search.strategy, {', '.join(strategies)}; got "
            f"{baseline!r:.100}"
        )
    if AA in strategies and baseline != DEFAULT_BASELINE:
        raise ValueError(
            f"search.strategy: {AA!r} is {DEFAULT_BASELINE!r} once more, and shows what no difference "
            f"from it looks like; the baseline is {baseline!r}: leave {AA!r} out"
        )
    if study.inference.baseline_draws > 1 and not {DEFAULT_BASELINE, AA} <= {*strategies}:
        raise ValueError(
            f"inference.baseline_draws: 2 takes the mean of {DEFAULT_BASELINE!r} and {AA!r}; list both "
            f"in search.strategy, got {', '.join(strategies)}"
        )
    if baseline in CONTROLS:
        raise ValueError(
            f"inference.baseline: {baseline!r} is a control, which is compared too; choose a strategy"
        )
    check_weights(study)
    if study.search.looks and not study.search.compares(baseline):
        raise ValueError(
            f"search: a look judges strategies against {baseline!r}: list it, another strategy and a mix "
            f"above 0; got strategy {list(strategies)} and mix {list(study.search.mix)}"
        )


def check_watch(study: "StudyConfig") -> None:
    for settings in study.evaluation.watch:
        try:
            check_watched(settings)
        except ValueError as error:
            raise ValueError(f"evaluation.watch, {settings.name}: {error}") from error
        if settings.name in (study.task_a.name, study.task_b.name):
            raise ValueError(
                f"evaluation.watch: {settings.name!r} is trained on; choose another name or corpus"
            )


def check_generation(study: "StudyConfig") -> None:
    generate, needed = study.evaluation.generate, MEASURES[study.inference.primary].needs
    if needed is not None and (generate is None or not needed.startswith(generate.tasks)):
        task = next(task for task in TASKS if needed.startswith(task))
        raise ValueError(
            f"inference.primary: {study.inference.primary} is of generated answers: add {task} to "
            "evaluation.generate.tasks"
        )
    if generate is None:
        return
    if needed is not None:
        task = next(task for task in TASKS if needed.startswith(task))
        settings = getattr(study, task)
        score = settings.score or find_task(settings).score
        if needed.removeprefix(f"{task}_") not in SCORES[score].names:
            raise ValueError(
                f"inference.primary: {study.inference.primary} is none of the scores of {task}, which is "
                f"judged by {score!r}: {', '.join(SCORES[score].names)}"
            )
    for name in generate.tasks:
        size = getattr(study, name).validation
        if generate.examples is not None and generate.examples > size:
            raise ValueError(
                f"evaluation.generate.examples: {generate.examples} is more than the {size} of "
                f"{name}.validation"
            )
    if not isinstance(generate.at, str):
        every = {study.training_at(point).eval_every for point in study.search.axis_points()}
        wrong = [step for step in generate.at if any(step % each for each in every)]
        if wrong:
            raise ValueError(
                f"evaluation.generate.at: answers are generated at evaluation points, multiples of "
                f"phase_b.eval_every, {', '.join(map(str, sorted(every)))}; got "
                f"{', '.join(map(str, wrong))}"
            )


def check_reselection(study: "StudyConfig") -> None:
    """What chooses by computed columns could choose again by part of them only."""
    if all(study.training_at(point).reselect_every is None for point in study.search.axis_points()):
        return
    strategies = [name for name in study.search.strategy if name not in CONTROLS]
    for name in strategies:
        rule = find_strategy(name)
        if "losses" in rule.columns and name.removeprefix(LENGTH_MATCHED) in loaded:
            raise ValueError(
                f"phase_b.reselect_every: {name!r} is a strategy of yours, whose code workers do not "
                "run, and cannot choose again: leave one of them out"
            )
        if "losses" in rule.columns and rule.computed:
            raise ValueError(
                f"phase_b.reselect_every: {name!r} chooses by {' and '.join(rule.computed)} too, "
                "which is of Phase A alone: leave one of them out"
            )
    if not any(map(reselects, strategies)):
        raise ValueError(
            "phase_b.reselect_every: is for strategies that choose by losses, and search.strategy has "
            f"none: {', '.join(study.search.strategy)}"
        )


def check_whose(study: "StudyConfig") -> None:
    for name in study.search.strategy:
        place = loaded.get(name.removeprefix(LENGTH_MATCHED))
        if place is not None and place != study.strategies:
            raise ValueError(
                f"search.strategy: {name!r} is of {place}: name that file here too, as strategies: {place}"
            )


def check_columns(study: "StudyConfig") -> None:
    """A brought adapter has no way that it came by."""
    if study.phase_a.adapter is None:
        return
    for name in study.search.strategy:
        if name not in CONTROLS and "learning_curve" in find_strategy(name).columns:
            raise ValueError(
                f"search.strategy: {name!r} chooses by Phase A's learning curve, and phase_a.adapter "
                "brings an adapter that was trained elsewhere: leave one of them out"
            )


def check_weights(study: "StudyConfig") -> None:
    weights, mixes = study.inference.weights, [mix for mix in study.search.mix if mix > 0]
    if weights is None:
        return
    if study.inference.order == "together":
        raise ValueError(
            "inference.weights: are of a strategy's mean over its mixes: set inference.order to "
            "strategies_first or strategies_only"
        )
    if set(weights) != set(mixes):
        raise ValueError(
            f"inference.weights: must give each mix of search.mix above 0 a weight, {mixes}; got "
            f"{sorted(weights)}"
        )


def check_whole(study: "StudyConfig") -> None:
    if study.task_a.name == study.task_b.name:
        raise ValueError(f"task_a and task_b are both {study.task_a.name!r}; forgetting needs two tasks")
    if study.gate and 0 not in study.search.mix:
        raise ValueError(
            "gate: true measures forgetting without replay: add 0 to search.mix, got "
            f"{list(study.search.mix)}"
        )
    for point in study.search.axis_points():
        training = study.training_at(point)
        by_examples = training.mix_unit == "examples"  # of tokens, planning knows how many
        if training.mix_mode == "substitute" and by_examples and max(study.search.mix) >= 1:
            raise ValueError(
                "search.mix 1.0 with mix_mode 'substitute' leaves no task B example; use mix < 1 or 'add'"
            )
        _check_length("phase_b", training, _fewest_in_phase_b(study, training))
    if study.phase_a.adapter is None:
        _check_length("phase_a", study.phase_a, (study.task_a.train, "task_a.train"))


def _fewest_in_phase_b(study: "StudyConfig", training: PhaseBSettings) -> tuple[int, str]:
    """Return how many examples an epoch of Phase B has at the smallest mix, and what makes them."""
    size, mix = study.task_b.train, min(study.search.mix)
    count = replay_count(mix, size)
    if training.mix_mode == "substitute" or training.mix_unit == "tokens" or count == 0:
        return size, "task_b.train"
    return size + count, f"task_b.train, {size}, and {count} replayed at mix {mix:g}"


def _check_length(section: str, training: TrainingSettings, pool: tuple[int, str]) -> None:
    """Raise ValueError for a batch that an epoch cannot fill, or a warm-up that ends after the
    training.
    """
    examples, origin = pool
    if training.batch_size > examples:
        raise ValueError(
            f"{section}.batch_size {training.batch_size} is more than the {examples} examples of an "
            f"epoch ({origin}): each would be one short batch. Lower batch_size or raise train"
        )
    steps = training.steps or -(-examples // training.batch_size) * (training.epochs or 0)
    if training.warmup_steps > steps:
        raise ValueError(
            f"{section}.warmup_steps {training.warmup_steps} is more than the {steps} steps of "
            f"{section}: its learning rate, {training.lr:g}, would never be reached"
        )


CHECKS: tuple[Callable[["StudyConfig"], None], ...] = (
    check_baseline,
    check_watch,
    check_generation,
    check_reselection,
    check_whose,
    check_columns,
    check_whole,
)
