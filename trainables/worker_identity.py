"""What a worker computes with: its code of this package, the versions of what computes, its devices, the base
model.

Its driver compares all of them with its own before anything is computed; every cell and artifact records the
first three.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from trainables.cache.code_identity import CHANGED, NUMERICS, loaded_digests, package_digest
from trainables.model.sources import ModelError, ModelSource, fingerprint_here
from trainables.settings import Attention, Precision, Quantization

PACKAGES = ("torch", "transformers", "peft", "numpy")
OF_PACKING = "bitsandbytes"  # asked for where weights are packed
ABSENT = "none"
FIRST_WITH_BF16 = (8, 0)  # CUDA compute capability
SHOWS_ALL = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"  # tells Ray to leave what a worker sees alone
TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"
COMPILED_FOR = re.compile(r"(sm|compute)_(\d+)(\d)")  # sm: machine code; compute: what drivers compile anew
MOST_NAMED = 3  # modules that one line names


@dataclass(frozen=True)
class Device:
    """A device that a worker can compute on; `bf16`: its hardware does. A CPU computes it without, slowly.

    `flash`: there is a kernel of attention for it over examples of several lengths.
    """

    kind: Literal["cpu", "cuda"]
    name: str
    bf16: bool
    capability: str = ""
    flash: bool = False

    def describe(self) -> str:
        return f"{self.name} (compute capability {self.capability})" if self.capability else self.name


@dataclass(frozen=True)
class WorkerIdentity:
    """What one worker computes with; `no_cuda` says why it has no GPU where one was asked for.

    `model`: the fingerprint of its copy of the base model, `no_model` why it has none.
    """

    modules: dict[str, str]
    versions: dict[str, str]
    devices: tuple[Device, ...] = ()
    no_cuda: str = ""
    model: str = ""
    no_model: str = ""


@dataclass(frozen=True)
class Requirement:
    """What every worker of a study must compute with; `precision` is None until it is agreed.

    `source` is the base model as the driver found it: a path may lead elsewhere on another machine.
    """

    modules: dict[str, str]
    versions: dict[str, str]
    on_gpu: bool
    source: ModelSource | None = None
    attention: Attention = "auto"
    precision: Precision | None = None

    @property
    def settled(self) -> Precision:
        """The precision that was agreed on."""
        assert self.precision is not None, "nothing is computed before a precision is agreed on"
        return self.precision

    def faults(self, found: WorkerIdentity) -> list[str]:
        """Return in what a worker differs from what is required, one short sentence each."""
        faults = [
            *self._other_modules(found.modules),
            *self._other_versions(found.versions),
            *self._other_model(found),
        ]
        if self.on_gpu and found.no_cuda:
            faults.append(f"resources.gpus asks for a GPU and there is none to compute on: {found.no_cuda}")
        if self.on_gpu and self.precision == "bf16":
            unable = dict.fromkeys(each.describe() for each in found.devices if not each.bf16)
            faults += [f"{name} cannot compute bf16, which this study is computed in" for name in unable]
        return faults + self._no_flash(found.devices)

    def _no_flash(self, devices: tuple[Device, ...]) -> list[str]:
        if self.attention != "flash":
            return []
        if self.precision == "fp32":
            return ["model.attention: flash is computed in bf16 alone, and this study in fp32"]
        unable = dict.fromkeys(each.describe() for each in devices if not each.flash)
        return [f"{name} has no kernel for model.attention: flash" for name in unable]

    def faults_of_worker(self, found: WorkerIdentity) -> list[str]:
        """Return in what a process differs that was given its work: it must see one device, and takes the
        first.
        """
        faults = self.faults(found)
        if len(found.devices) > 1:
            faults.append(
                f"a worker sees {len(found.devices)} GPUs where Ray gave it one, so that all workers would "
                f"share the first: unset {SHOWS_ALL} for ray start and run"
            )
        return faults

    def _other_modules(self, found: dict[str, str]) -> list[str]:
        names = found.keys() | self.modules.keys()
        pairs = {name: (found.get(name), self.modules.get(name)) for name in names}
        other = sorted(name for name, pair in pairs.items() if CHANGED in pair or pair[0] != pair[1])
        if not other:
            return []
        more = f" and {len(other) - MOST_NAMED} more" if len(other) > MOST_NAMED else ""
        named = f"{', '.join(other[:MOST_NAMED])}{more}"
        if CHANGED in {found.get(name) for name in other}:
            return [f"{named}: changed while a worker started"]
        if CHANGED in {self.modules.get(name) for name in other}:
            return [f"{named}: changed since the driver was started; start it again"]
        return [f"{named}: not the driver's code"]

    def _other_versions(self, found: dict[str, str]) -> list[str]:
        return [
            f"{name} {found.get(name, ABSENT)}, the driver has {wanted}"
            for name, wanted in self.versions.items()
            if found.get(name) != wanted
        ]

    def _other_model(self, found: WorkerIdentity) -> list[str]:
        if self.source is None or found.model == self.source.fingerprint:
            return []
        other = (
            f"model.name: {self.source.location} holds another model there (fingerprint {found.model}) "
            "than the driver's"
        )
        return [found.no_model or other]


def package_versions(*more: str) -> dict[str, str]:
    """Return the versions of the packages that compute, and of `more`, without the names of their builds
    (+cu130).
    """
    return {name: _version(name) for name in (*PACKAGES, *more)}


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return ABSENT


def requirement(
    *,
    on_gpu: bool,
    source: ModelSource | None = None,
    attention: Attention = "auto",
    quantization: Quantization = "none",
) -> Requirement:
    """Return what workers must compute with to agree with this process."""
    more = () if quantization == "none" else (OF_PACKING,)
    return Requirement(loaded_digests(), package_versions(*more), on_gpu, source, attention)


@cache
def identify(*, on_gpu: bool, source: ModelSource | None = None) -> WorkerIdentity:
    """Return what this process computes with, as it was when this was first asked."""
    devices, no_cuda = _gpus() if on_gpu else ((_cpu(),), "")
    model, no_model = _model(source) if source else ("", "")
    return WorkerIdentity(loaded_digests(), package_versions(OF_PACKING), devices, no_cuda, model, no_model)


def _model(source: ModelSource) -> tuple[str, str]:
    try:
        return fingerprint_here(source), ""
    except (ModelError, OSError) as error:
        return "", str(error)


def _cpu() -> Device:
    import torch

    from trainables.engine.device import choose_precision, device_name
    from trainables.model.attention import has_varlen

    cpu = torch.device("cpu")
    bf16 = choose_precision("auto", cpu) == "bf16"
    return Device("cpu", device_name(cpu), bf16=bf16, flash=has_varlen(cpu))


def _gpus() -> tuple[tuple[Device, ...], str]:
    """Return the GPUs that this process sees, or why it sees none that it can compute on."""
    import torch

    if torch.cuda.is_available():
        devices = tuple(_gpu(number) for number in range(torch.cuda.device_count()))
        return devices, _without_code(devices, torch.cuda.get_arch_list()) or _rounded()
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:  # a build without CUDA; no driver, or one too old for it
        return (), f"torch {torch.__version__}: {str(error).partition(chr(10))[0].rstrip('.')}"
    return (), f"torch {torch.__version__} sees no device"


def _rounded() -> str:
    """Say where the environment lets NVIDIA's libraries round what is computed in fp32; no call forbids it
    them.
    """
    value = os.environ.get(TF32_OVERRIDE, "0")
    return "" if value == "0" else f"{TF32_OVERRIDE}={value} rounds products in fp32 there: unset it"


def _gpu(number: int) -> Device:
    import torch

    from trainables.model.attention import has_varlen

    capability = torch.cuda.get_device_capability(number)
    return Device(
        "cuda",
        torch.cuda.get_device_name(number),
        bf16=capability >= FIRST_WITH_BF16,
        capability="{}.{}".format(*capability),
        flash=has_varlen(torch.device("cuda", number)),
    )


def _without_code(devices: Sequence[Device], architectures: Sequence[str]) -> str:
    """Name the cards that this torch holds no code for: it lists them, and fails at the first kernel."""
    import torch

    unable = dict.fromkeys(each.describe() for each in devices if not _holds_code(each, architectures))
    if not unable:
        return ""
    return (
        f"torch {torch.__version__} has no code for {', '.join(unable)}, only for {', '.join(architectures)}"
    )


def _holds_code(device: Device, architectures: Sequence[str]) -> bool:
    """Whether a build for these architectures runs: machine code of its generation, or any that drivers
    compile.
    """
    major, minor = map(int, device.capability.split("."))
    compiled = [
        (kind, int(first), int(second))
        for kind, first, second in COMPILED_FOR.findall(" ".join(architectures))
    ]
    return not compiled or any(
        (first, second) <= (major, minor) and (kind == "compute" or first == major)
        for kind, first, second in compiled
    )


def work_record(device: str) -> dict[str, Any]:
    """Return what a result computed on `device` says of where its numbers come from."""
    return {"numerics": NUMERICS, "code": package_digest(), "versions": package_versions(), "device": device}
