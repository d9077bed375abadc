"""The plain path that the engine's fast ones are compared with: one example at a time, whole logits."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import get_peft_model, set_peft_model_state_dict
from torch.nn import functional
from transformers import AutoModelForCausalLM

from tests.trainables.learning import Learning
from trainables.model.lora_files import lora_config
from trainables.tasks.tokenised import TokenisedExamples


def peft_model(learning: Learning, adapter: torch.Tensor) -> Any:
    """Return PEFT's model of the study with the adapter of a bank's row, in fp32, without dropout."""
    base = AutoModelForCausalLM.from_pretrained(learning.study.model.name)
    model = get_peft_model(base, lora_config(learning.study.model.lora))
    weights = learning.session().model.export_weights(adapter)
    set_peft_model_state_dict(model, {name: torch.from_numpy(array) for name, array in weights.items()})
    return model.eval()


def plain_nll(
    model: Any, examples: TokenisedExamples, index: int, *, loss_on: str = "completion"
) -> torch.Tensor:
    """Return one example's summed nll by a transformers or PEFT model, from its whole logits."""
    tokens = torch.from_numpy(examples.example(index).astype(np.int64))[None]
    first = 1 if loss_on == "all" else int(examples.prompt_lengths[index])
    logits = model(input_ids=tokens, use_cache=False).logits[0, first - 1 : -1]
    return functional.cross_entropy(logits.float(), tokens[0, first:], reduction="sum")


def plain_losses(
    model: Any, examples: TokenisedExamples
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return each example's summed nll and supervised tokens, both (n,)."""
    with torch.no_grad():
        nll = [plain_nll(model, examples, index).item() for index in range(len(examples))]
    return np.array(nll), examples.supervised_counts("completion")
