"""Whether a checkpoint's weights are a model's: every name and shape, as transformers itself matches them.

What a checkpoint lacks, transformers draws at random, anew at every load, with no more than a warning.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trainables.model.weight_files import ModelError, StoredTensor, not_finite, same_numbers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Buffers that older releases of transformers wrote beside the weights; models compute them now.
OLD_BUFFERS = re.compile(
    r"(^|\.)((rotary_emb\.)?(inv_freq|cos_cached|sin_cached)|masked_bias|position_ids|(attn|attention)\.bias)$"
)
# What names that no model has are a sign of, tried in order.
SIGNS = (
    (r"\.(qweight|qzeros|scales|g_idx)$", "it is quantised (GPTQ or AWQ)"),
    (r"\.(absmax|quant_map|quant_state\.\w+|SCB)$", "it is quantised (bitsandbytes)"),
    (r"(weight|input)_scale(_inv)?$|\.weight_packed$", "it is quantised (fp8 or packed integers)"),
    (
        r"lora_[AB]\b|\.base_layer\.",
        "it was saved with an adapter in it: merge the adapter first, or save without",
    ),
)
FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
OF_BUFFERS = {"BOOL": "bool", "U8": "uint8", "I32": "int32", "I64": "int64"}
SHOWN = 3


def check_names(model: "PreTrainedModel", stored: Mapping[str, StoredTensor], *, where: str) -> None:
    """Match the headers of a checkpoint with `model`, on the meta device, as a load would.

    Raises ModelError with what is missing, not expected, of another shape or not made of floats.
    """
    import torch

    buffers = {name for name, _ in model.named_buffers()}
    known = FLOATS | OF_BUFFERS
    strange = sorted(name for name, each in stored.items() if each.dtype not in FLOATS)
    strange = [name for name in strange if name not in buffers and not OLD_BUFFERS.search(name)]
    if strange:
        raise ModelError(
            f"model.name: {where} holds {_first(strange)} as {stored[strange[0]].dtype}: quantised weights "
            "cannot be trained here; give the model in bf16, fp16 or fp32"
        )
    tensors = {
        name: torch.empty(each.shape, dtype=getattr(torch, known[each.dtype]), device="meta")
        for name, each in stored.items()
        if each.dtype in known
    }
    with unreported():
        try:
            matched: Any = type(model).from_pretrained(
                None,
                config=model.config,
                state_dict=tensors,
                device_map={"": "meta"},
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except RuntimeError as error:
            raise ModelError(f"model.name: the weights in {where} do not fit the model: {error}") from error
    refuse_other_weights(model, matched[1], where=where)


@contextmanager
def unreported() -> Iterator[None]:
    """Keep transformers' progress bar and reports to itself: nothing is loaded, and ours says more."""
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def refuse_other_weights(model: "PreTrainedModel", report: Mapping[str, Any], *, where: str) -> None:
    """Raise ModelError where a load's own report says that weights were not those of the model.

    `report`: `missing_keys`, `unexpected_keys` and `mismatched_keys` of transformers' loading info.
    """
    missing = sorted(report["missing_keys"])
    unexpected = sorted(name for name in report["unexpected_keys"] if not OLD_BUFFERS.search(name))
    reshaped = sorted(report["mismatched_keys"])
    if not (missing or unexpected or reshaped):
        return
    found = []
    if missing:
        found.append(f"{len(missing):,} of the model's weights are missing ({_first(missing)})")
    if unexpected:
        found.append(f"{len(unexpected):,} are not the model's ({_first(unexpected)})")
    if reshaped:
        name, theirs, ours = reshaped[0]
        found.append(
            f"{len(reshaped):,} have another shape ({name} is {tuple(theirs)} and must be {tuple(ours)})"
        )
    cause = _cause(missing, unexpected)
    raise ModelError(
        f"model.name: the weights in {where} are not those of {type(model).__name__} as its config.json "
        f"describes it: {'; '.join(found)}. {cause or 'Is config.json of another model?'} Nothing is trained "
        "on weights drawn at random"
    )


def _cause(missing: list[str], unexpected: list[str]) -> str | None:
    """Return the likely cause in a sentence, None where nothing speaks for one."""
    for pattern, cause in SIGNS:
        if any(re.search(pattern, name) for name in unexpected):
            return f"Likely {cause}."
    wanted = set(missing)
    added = Counter(
        name[: dot + 1] for name in unexpected for dot in _dots(name) if name[dot + 1 :] in wanted
    )
    if added:
        prefix, count = added.most_common(1)[0]
        return (
            f"Likely the names were saved with a prefix: {count:,} begin with {prefix!r} and fit without it."
        )
    given = set(unexpected)
    lacking = Counter(name[: dot + 1] for name in missing for dot in _dots(name) if name[dot + 1 :] in given)
    if lacking:
        prefix, count = lacking.most_common(1)[0]
        return f"Likely the names lost a prefix: {count:,} would fit with {prefix!r} before them."
    return None if unexpected or not missing else "Is a part of the checkpoint absent?"


def _dots(name: str) -> Iterable[int]:
    return (position for position, letter in enumerate(name) if letter == ".")


def check_numbers(model: "PreTrainedModel", stored: Mapping[str, StoredTensor]) -> None:
    """Raise ModelError where a weight is not finite, or two that the model ties are not one. Reads all
    weights.
    """
    for file in sorted({each.file for each in stored.values()}):
        bad = [name for name in not_finite(file) if not OLD_BUFFERS.search(name)]
        if bad:
            raise ModelError(
                f"model.name: {file} holds NaN or infinity in {len(bad):,} weights ({_first(bad)}): no loss "
                "could be computed"
            )
    for target, source in model.all_tied_weights_keys.items():
        if {target, source} <= stored.keys() and not same_numbers(stored[target], stored[source]):
            raise ModelError(_untied(target, source))


def check_loaded(model: "PreTrainedModel", report: Mapping[str, Any], *, where: str) -> None:
    """Check a loaded model as `check_names` and `check_numbers` do its files. Raises ModelError."""
    import torch

    refuse_other_weights(model, report, where=where)
    bad = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if bad:
        raise ModelError(f"model.name: {where} holds NaN or infinity in {len(bad):,} weights ({_first(bad)})")
    tied = getattr(model.config, "tie_word_embeddings", False)
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if tied and head is not None and head.weight is not embedding.weight:
        raise ModelError(_untied("the output layer", "the input embedding"))


def _untied(target: str, source: str) -> str:
    return (
        f"model.name: config.json ties {target} to {source}, but the checkpoint holds two different ones: "
        "set tie_word_embeddings to false in config.json if both are meant"
    )


def _first(names: list[str]) -> str:
    """Return the first few names, and that there are more."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
