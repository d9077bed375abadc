"""Checks of the default path: a model's folder loaded as a worker loads it, nothing chosen by the user."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import torch

from benchmarks.findings import Finding, Scene
from benchmarks.model_checks import LORA, adapters, compare, compute, plain_result, two_lanes
from benchmarks.plain import same_base
from trainables.cache.machine import CACHE_VARIABLE
from trainables.engine.compute_plan import Tuning
from trainables.engine.session import Setup, Trainee, forget_trainee, load_trainee
from trainables.model.attention import attentions_on
from trainables.model.sources import ModelSource
from trainables.settings import ModelSettings


def check_worker(scene: Scene) -> Iterator[Finding]:
    """Precision and attention are the device's best; what a worker then computes is the plain path's.

    The model is loaded twice: measuring the device, and as later workers do, with what was settled.
    """
    with TemporaryDirectory() as folder, mock.patch.dict(os.environ, {CACHE_VARIABLE: f"{folder}/cache"}):
        same_base(scene, "bf16").save_pretrained(f"{folder}/model")
        source = ModelSource("directory", f"{folder}/model", None, "check")
        settled: Tuning | None = None
        for worker in ("the first worker", "a later worker"):
            trainee = _load(source, scene, settled)
            settled = trainee.tuning
            yield from _chosen(worker, settled, scene)
            examples = two_lanes(scene)
            bank = adapters(trainee.model, len(examples))
            plain = plain_result(scene, "bf16", trainee.model, bank, examples)
            for budget in (1, settled.tokens["training"]):
                found = compute(trainee.model, bank, examples, budget=budget)
                title = (
                    f"{worker}, {settled.attention} attention, {settled.precision}, {budget} tokens at a time"
                )
                yield from compare(title, found, plain, trainee.model, "bf16")
    forget_trainee()


def _load(source: ModelSource, scene: Scene, settled: Tuning | None) -> Trainee:
    settings = ModelSettings(name=Path(source.location).name, lora=LORA)
    gpus = 1.0 if scene.device.type == "cuda" else 0.0
    forget_trainee()
    return load_trainee(Setup(source, settings, gpus=gpus, cpus=1.0), tuning=settled)


def _chosen(worker: str, tuning: Tuning, scene: Scene) -> Iterator[Finding]:
    """Say whether bf16 was chosen and an attention that the device has; FlashAttention must be one."""
    usable = attentions_on(scene.device, torch.bfloat16, width=scene.head_width)
    yield Finding(f"{worker}: {tuning.precision}, expected bf16", tuning.precision != "bf16", 0)
    yield Finding(f"{worker}: {usable[0]} attention is preferred, expected flash", usable[0] != "flash", 0)
    yield Finding(f"{worker}: {tuning.attention} attention is chosen", tuning.attention not in usable, 0)
