"""Checks of the default path: a model's folder loaded as a worker loads it, nothing chosen by the user."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import torch

from benchmarks.findings import Finding, Scene
from benchmarks.model_checks import LORA, adapters, compare, compute, plain_result, two_runs
from benchmarks.plain import same_base
from trainables.cache.machine import CACHE_VARIABLE
from trainables.engine.compute_plan import ComputePlan
from trainables.engine.session import ModelSession, forget_session, load_session
from trainables.engine.setup import Setup
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
        settled: ComputePlan | None = None
        for worker in ("the first worker", "a later worker"):
            session = _load(source, scene, settled)
            settled = session.compute_plan
            yield from _chosen(worker, settled, scene)
            examples = two_runs(scene)
            stack = adapters(session.model, len(examples))
            plain = plain_result(scene, "bf16", session.model, stack, examples)
            for budget in (1, settled.tokens["training"]):
                found = compute(session.model, stack, examples, budget=budget)
                title = (
                    f"{worker}, {settled.attention} attention, {settled.precision}, {budget} tokens at a time"
                )
                yield from compare(title, found, plain, session.model, "bf16")
    forget_session()


def _load(source: ModelSource, scene: Scene, settled: ComputePlan | None) -> ModelSession:
    settings = ModelSettings(name=Path(source.location).name, lora=LORA)
    gpus = 1.0 if scene.device.type == "cuda" else 0.0
    forget_session()
    return load_session(Setup(source, settings, gpus=gpus, cpus=1.0), compute_plan=settled)


def _chosen(worker: str, compute_plan: ComputePlan, scene: Scene) -> Iterator[Finding]:
    """Say whether bf16 was chosen and an attention that the device has; FlashAttention must be one."""
    usable = attentions_on(scene.device, torch.bfloat16, width=scene.head_width)
    yield Finding(f"{worker}: {compute_plan.precision}, expected bf16", compute_plan.precision != "bf16", 0)
    yield Finding(f"{worker}: {usable[0]} attention is preferred, expected flash", usable[0] != "flash", 0)
    yield Finding(
        f"{worker}: {compute_plan.attention} attention is chosen", compute_plan.attention not in usable, 0
    )
