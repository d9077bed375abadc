"""The configuration: the original's defaults, and errors that name the field, the value and the choices."""

from pathlib import Path
from typing import Any

import pytest

from sweep.configuration import ConfigurationError, Study, load_study

CONFIGS = Path(__file__).parents[2] / "configs"


# Nine aliases of nine aliases, nine times over: half a page, and 4 billion values once written out.
LAUGHS = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [" + ", ".join(f"*{before}" for _ in range(9)) + "]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MANY = [(number + 1) / 1000 for number in range(1000)]


def load(tmp_path: Path, text: str, *overrides: str) -> Study:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_study(path, overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("storage: x", r"study: required"),
        ("study: a\nbogus: 1", r"bogus: unknown key; choose from study, storage, model"),
        ("study: a\ntask_a: {trian: 3}", r"task_a\.trian: unknown key; choose from name, path, train"),
        ("study: a\nphase_b: {lr: fast}", r"phase_b\.lr: .*number.*'fast'"),
        ("study: a\nphase_b: {lr: -1}", r"phase_b\.lr: .*greater than 0.*-1"),
        ("study: a\nphase_b: {lr: .nan}", r"phase_b\.lr: "),
        ("study: a\nphase_b: {epochs: 1, steps: 3}", r"phase_b: give exactly one of epochs and steps"),
        ("study: a\nphase_b: {mix_mode: both}", r"phase_b\.mix_mode: .*'add' or 'substitute'.*'both'"),
        ("study: a\nsearch: {mix: [0, 2]}", r"search\.mix\[1\]: .*less than or equal to 1.*2"),
        ("study: a\nsearch: {strategy: hardest}", r"unknown strategy 'hardest': choose from random"),
        ("study: a\nsearch: {seed: [1, 1]}", r"axis 'seed' names a value twice"),
        ("study: a\nsearch: {color: [1]}", r"unknown axis 'color': choose strategy, mix, seed or a phase_b"),
        ("study: a\nsearch: {lr: [fast]}", r"lr: .*number"),
        ("study: a\nsearch: {mix: []}", r"search\.mix: "),
        ("study: a\ntask_a: {path: nowhere.jsonl}", r"task_a\.path: no file or directory at .*nowhere"),
        ("study: a\nphase_a: {adapter: nowhere}", r"phase_a\.adapter: no file or directory"),
        ("study: a\ntask_a: {name: gsm8k}", r"unknown task 'gsm8k': choose one of math, hotpotqa"),
        ("study: a\ntask_a: {name: hotpotqa}", r"both 'hotpotqa'"),
        ("study: a\nresources: {gpus: 1.5}", r"resources\.gpus: above 1 only whole numbers"),
        ("study: a/b", r"study: .*pattern"),
        ("study: a\nstudy: b", r"given twice"),
        ("study: [a", r"not valid YAML"),
        ("- a", r"expected sections"),
        ("study: a\n? [b]\n: c", r"not valid YAML"),
        (
            "\n".join(f"a{number}: 1" for number in range(30_000)),
            r"\n  a47: unknown key.*\n  \.\.\. and 29952 more",
        ),
        (LAUGHS, r"stands for more than 100,000 values"),
        (LAUGHS + "study: *i", r"stands for more than 100,000 values"),
        ("study: &a [*a]", r"stands for more than 100,000 values"),
        ("study: " + "[" * 10_000, r"nested too deeply"),
        ("{a: " * 3000, r"nested too deeply"),
        ("study: a\nmax_length: " + "9" * 5000, r"not valid YAML: Exceeds the limit"),
        ("study: a\nmax_length: 0x" + "f" * 9000, r"an integer is too large"),
        ("study: a\nmax_length: 1e400", r"max_length: .*integer"),
        ("study: a\ntask_a: {train: 99999999999}", r"task_a\.train: .*less than or equal to 2147483647"),
        ("study: a\nmodel: !!bool x", r"not valid YAML"),
        ("study: a\nmodel: !!timestamp x", r"not valid YAML"),
        ("study: a\nmodel: !!python/object/apply:os.system [true]", r"could not determine a constructor"),
        ("study: a\nsearch: {lr: [{}]}", r"axis 'lr' must list plain values, got \[{}\]"),
        ("study: a\nsearch: {lr: [[1e-4]]}", r"axis 'lr' must list plain values"),
        (
            f"study: a\nsearch: {{lr: {MANY}, weight_decay: {MANY}}}",
            r"span 5,000,000 points, at most 1,000,000",
        ),
        ("study: a\ntask_a: {path: ~nobody-is-called-this/x}", r"task_a\.path: no home directory"),
        ("study: a\ntask_a: {path: " + "a" * 5000 + "}", r"task_a\.path: .*File name too long"),
    ],
)
def test_a_faulty_field_is_named_with_its_value_and_the_choices(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, text)


def test_aliases_that_stay_small_are_written_out(tmp_path: Path) -> None:
    study = load(tmp_path, "study: a\nphase_a: &same {lr: 1e-3, batch_size: 4}\nphase_b: *same")
    assert study.phase_a.batch_size == study.phase_b.batch_size == 4


def test_a_long_override_is_cut_in_its_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nested too deeply") as caught:
        load(tmp_path, "study: a", "study=" + "[" * 10_000)
    assert len(str(caught.value)) < 1000


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "study: a\nmax_length: 1\nphase_a: {lr: 0}\nphase_b: {batch_size: 0}")
    assert all(name in str(caught.value) for name in ("max_length", "phase_a.lr", "phase_b.batch_size"))


def test_defaults_are_the_originals(tmp_path: Path) -> None:
    study = load(tmp_path, "study: a")
    assert study.model.name == "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    assert (study.model.lora.r, study.model.lora.alpha, study.model.lora.dropout) == (8, 16, 0.05)
    assert study.model.lora.target_modules == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert (study.task_a.name, study.task_b.name, study.max_length) == ("math", "hotpotqa", 2048)
    assert (study.task_a.train, study.task_b.validation) == (4000, 400)
    assert (study.phase_a.lr, study.phase_b.lr, study.phase_b.batch_size) == (2e-4, 7e-5, 64)
    assert (study.phase_a.epochs, study.phase_b.epochs, study.phase_b.eval_every) == (2, 2, 10)
    assert study.search.mix == (0.1,)
    assert len(study.search.strategy) == 5


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("search.seed=[0,1,2]", "search.seed", (0, 1, 2)),
        ("phase_b.lr=2e-4", "phase_b.lr", 2e-4),
        ("model.dtype=fp32", "model.dtype", "fp32"),
        ("model.lora.r=4", "model.lora.r", 4),
        ("phase_b.steps=7", "phase_b.steps", 7),
    ],
)
def test_any_field_can_be_overridden(tmp_path: Path, override: str, field: str, value: Any) -> None:
    found: Any = load(tmp_path, "study: a\nmodel: smollm2-135m", override)
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize("override", ["search.seed", "=3", "study.name=x", "search..mix=1"])
def test_an_override_that_cannot_be_applied_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigurationError, match="--set"):
        load(tmp_path, "study: a", override)


def test_a_phase_b_field_is_a_further_axis(tmp_path: Path) -> None:
    study = load(tmp_path, "study: a\nsearch: {lr: [1e-4, 2e-4], steps: [3]}")
    points = [study.training_at(point) for point in study.search.axis_points()]
    assert [(training.lr, training.steps, training.epochs) for training in points] == [
        (1e-4, 3, None),
        (2e-4, 3, None),
    ]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    assert load_study(path).study == path.stem
