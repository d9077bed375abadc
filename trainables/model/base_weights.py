"""The frozen weights as arrays that all workers of a node share through the object store.

Ray maps them writable, so whoever computes on them checks at the end that they are what they were.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from trainables.model.sources import ModelSource, load_base_model, load_empty_model
from trainables.settings import Precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SharedWeightsError(RuntimeError):
    """Shared weights that were overwritten: no number computed with them can be trusted."""


@dataclass(frozen=True)
class BaseWeights:
    """A model's weights by name (bf16 as the bits in int16) and their checksum."""

    arrays: dict[str, npt.NDArray[Any]]
    precision: Precision
    checksum: str

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(array.nbytes for array in self.arrays.values())

    def check(self) -> None:
        """Raise SharedWeightsError if a single bit is not as it was loaded."""
        if _checksum(self.arrays) != self.checksum:
            raise SharedWeightsError(
                "the base model's weights in the object store were overwritten while a cell trained on them; "
                "this cell is not recorded, and the study should be run again on a fresh cluster"
            )


def read_base_weights(source: ModelSource, *, precision: Precision) -> BaseWeights:
    """Load the base model and return its weights; tied ones once."""
    import torch

    model = load_base_model(source, precision=precision)
    arrays: dict[str, npt.NDArray[Any]] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
            arrays[name] = plain.contiguous().numpy()
    return BaseWeights(arrays, precision, _checksum(arrays))


def build_base_model(source: ModelSource, weights: BaseWeights) -> "PreTrainedModel":
    """Return the base model on top of `weights`, without a copy of them."""
    import torch

    dtype = torch.bfloat16 if weights.precision == "bf16" else torch.float32
    model = load_empty_model(source)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensors = {name: torch.from_numpy(array) for name, array in weights.arrays.items()}
    typed = {name: t.view(dtype) if t.dtype == torch.int16 else t for name, t in tensors.items()}
    model.load_state_dict(typed, assign=True, strict=False)
    model.tie_weights()
    model.config.dtype = dtype
    missing = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    assert not missing, f"weights not shared: {missing}"
    model.config.use_cache = False
    return model.requires_grad_(False)


def _checksum(arrays: dict[str, npt.NDArray[np.generic]]) -> str:
    total = xxhash.xxh3_128()
    for name, array in sorted(arrays.items()):
        total.update(name.encode())
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()
