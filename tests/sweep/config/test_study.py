"""The configuration: the original's defaults, and errors that name the field, the value and the choices."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.config.errors import ConfigurationError
from sweep.config.study import StudyConfig, load_study, validate_study
from sweep.config.yaml_text import format_yaml, parse_yaml
from trainables.ledger.schema import AA

CONFIGS = Path(__file__).parents[3] / "configs"


# Nine aliases of nine aliases, nine times over: half a page, and 4 billion values once written out.
LAUGHS = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [" + ", ".join(f"*{before}" for _ in range(9)) + "]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MANY = [(number + 1) / 1000 for number in range(1000)]


def load(tmp_path: Path, text: str, *overrides: str) -> StudyConfig:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_study(path, overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("storage: x", r"study: required"),
        ("study: 2024", r"study: .*put it in quotes$"),  # and not a word of the storage, which has its name
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
        (
            "study: a\ntask_a: {name: gsm8k}",
            r"unknown task 'gsm8k': choose one of arithmetic, math, convention, hotpotqa",
        ),
        ("study: a\ntask_a: {name: hotpotqa}", r"both 'hotpotqa'"),
        ("study: a\nresources: {cpus: 1.5}", r"resources\.cpus: above 1 only whole numbers"),
        (
            "study: a\nresources: {gpus: 2}",
            r"resources\.gpus: at most 1: a cell trains on one GPU.*\(got 2",
        ),
        ("study: a/b", r"study: .*pattern"),
        ("study: a\nstorage: $SCRATCH/a", r"storage: environment variables are not filled in.*\$SCRATCH/a"),
        ("study: a\nphase_a: {cache: '${HOME}/a'}", r"phase_a\.cache: environment variables are not"),
        ("study: a\nstudy: b", r"given twice"),
        ("study: [a", r"not valid YAML"),
        ("- a", r"expected sections"),
        ("study: a\n? [b]\n: c", r"not valid YAML"),
        (
            "\n".join(f"a{number}: 1" for number in range(30_000)),
            r"\n  a48: unknown key.*\n  \.\.\. and 29951 more",
        ),
        (LAUGHS, r"stands for more than 100,000 values"),
        (LAUGHS + "study: *i", r"stands for more than 100,000 values"),
        ("study: &a [*a]", r"stands for more than 100,000 values"),
        ("study: " + "[" * 10_000, r"nested too deeply"),
        ("{a: " * 3000, r"nested too deeply"),
        ("study: a\nmax_length: " + "9" * 5000, r"not valid YAML: Exceeds the limit"),
        ("study: a\nmax_length: 0x" + "f" * 9000, r"an integer is too large"),
        ("study: a\nmax_length: 1e400", r"max_length: .*finite"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: {mix: 20}", r"search\.mix\[0\]: .*\(got 20\); 20 % is 0\.2"),
        ("search: {mix: [0, 10%]}", r"search\.mix\[1\]: .*'10%'\); 10 % is 0\.1"),
        ("inference: {level: 95}", r"inference\.level: .*; 95 % is 0\.95"),
        ("model: {lora: {dropout: 5}}", r"model\.lora\.dropout: .*; 5 % is 0\.05"),
        ("search: {seed: '0,1'}", r"search\.seed\[0\]: .*'0,1'\); write a list as \[0, 1\]"),
        ("search: {lr: '1e-4 2e-4'}", r"lr: .*; write a list as \[1e-4, 2e-4\]"),
        ("search: {strategy: 'random, difficulty_hard'}", r"write a list as \[random, difficulty_hard\]"),
        ("search: {strategy: dificulty_hard}", r"unknown strategy .*; did you mean 'difficulty_hard'\?"),
        ("search: {stategy: random}", r"unknown axis 'stategy': .*; did you mean 'strategy'\?"),
        ("search: {seed: -1}", r"search\.seed\[0\]: .*greater than or equal to 0 \(got -1\)"),
        ("serach: {seed: 1}", r"serach: unknown key; .*; did you mean 'search'\?"),
        ("lr: 1e-4", r"lr: unknown key; .*; did you mean phase_a\.lr or phase_b\.lr\?"),
        ("phase_b: {eval_evry: 5}", r"phase_b\.eval_evry: unknown key; .*; did you mean 'eval_every'\?"),
        ("phase_b: {mix_mode: subsitute}", r"phase_b\.mix_mode: .*; did you mean 'substitute'\?"),
        ("phase_b: {epochs: true}", r"phase_b\.epochs: must be a number, not true or false"),
        ("search: {seed: [0, true]}", r"search\.seed: must be a number, not true or false"),
        ("search: {lr: true}", r"lr: must be a number, not true or false"),
        ("model: {revision: 1234567}", r"model\.revision: .*\(got 1234567\); put it in quotes"),
        ("task_a: {name: own, path: ., prompt: Q: {q}, completion: x}", r"not valid YAML"),
        ("model: {lora: {target_modules: q_proj}}", r"target_modules: .*list.*; write \[q_proj\]"),
        (
            "model: {lora: {target_modules: [all-linear, q_proj]}}",
            r"all-linear stands for every linear layer",
        ),
        ("phase_a: 3", r"phase_a: .*; it is a section: its fields go below it"),
        ("? [b]\n: c", r"not valid YAML: .*a key must be a plain word"),
        (
            "task_a: {name: arithmetic, train: 100000000}",
            r"task_a: task 'arithmetic' is generated, and makes at most 1,000,000 distinct examples; .* "
            r"100,000,400",
        ),
    ],
)
def test_a_known_mistake_is_answered_with_what_to_write(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.compile(message, re.DOTALL)) as caught:
        load(tmp_path, f"study: a\n{text}")
    assert "at least 1 item" not in str(caught.value), "a refused entry is one fault, not two"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "task_a: {train: 40}\nphase_a: {batch_size: 512}",
            r"phase_a\.batch_size 512 is more than the 40 examples of an epoch \(task_a\.train\)",
        ),
        (
            "task_b: {train: 40}\nphase_b: {batch_size: 41}\nsearch: {mix: [0, 0.5]}",
            r"phase_b\.batch_size 41 is more than the 40 examples of an epoch \(task_b\.train\)",
        ),
        (
            "task_b: {train: 40}\nphase_b: {batch_size: 61}\nsearch: {mix: [0.5, 1]}",
            r"phase_b\.batch_size 61 is more than the 60 .*\(task_b\.train, 40, and 20 replayed at mix 0\.5\)",  # noqa: E501
        ),
        (
            "task_b: {train: 40}\nphase_b: {batch_size: 41, mix_mode: substitute}\nsearch: {mix: [0.5]}",
            r"phase_b\.batch_size 41 is more than the 40",
        ),
        (
            "task_b: {train: 40}\nphase_b: {batch_size: 4}\nsearch: {mix: [0], batch_size: [4, 64]}",
            r"phase_b\.batch_size 64 is more than the 40",
        ),
        (
            "phase_a: {steps: 5, warmup_steps: 6}",
            r"phase_a\.warmup_steps 6 is more than the 5 steps of phase_a: .* 0\.0002, would never be reached",  # noqa: E501
        ),
        (
            "task_b: {train: 64}\nphase_b: {warmup_steps: 3}\nsearch: {mix: 0}",
            r"phase_b\.warmup_steps 3 is more than the 2 steps",
        ),
    ],
)
def test_a_batch_or_a_warmup_that_the_pool_cannot_fill_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, f"study: a\n{text}")


def test_a_batch_may_be_the_whole_pool_and_a_brought_adapter_needs_no_batch(tmp_path: Path) -> None:
    load(tmp_path, "study: a\ntask_b: {train: 40}\nphase_b: {batch_size: 60}\nsearch: {mix: 0.5}")
    load(tmp_path, f"study: a\ntask_a: {{train: 40}}\nphase_a: {{adapter: {tmp_path}}}\nsearch: {{mix: 0}}")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
def test_yaml_words_mean_what_yaml_1_2_says(tmp_path: Path, mark: bytes) -> None:
    text = """
        study: 2024-01-31
        model: {name: x, compile: off, revision: 1:30}
        phase_a: {lr: 1e-4}
        phase_b: {batch_size: 1_0, lr: 7e-5}
        search: {seed: [010, 0o10], lr: [5e-5]}
        gate: no"""
    path = tmp_path / "study.yaml"
    path.write_bytes(mark + textwrap.dedent(text).encode())
    study = load_study(path, ("phase_a.warmup_steps=010", "model.attention=eager"))
    assert (study.study, study.model.compile, study.model.revision) == ("2024-01-31", "off", "1:30")
    assert (study.phase_a.lr, study.phase_a.warmup_steps, study.phase_b.lr) == (1e-4, 10, 7e-5)
    assert (study.phase_b.batch_size, study.search.seed, study.search.axes) == (10, (10, 8), {"lr": [5e-5]})
    assert not study.gate


def test_a_configuration_in_utf_16_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: a", encoding="utf-16")
    with pytest.raises(ConfigurationError, match=r"the text must be UTF-8 \(UTF-16\)"):
        load_study(path)


def test_yaml_that_is_written_is_read_as_the_same_values_by_old_and_new_readers() -> None:
    words = [
        "off",
        "yes",
        "010",
        "0o10",
        "1e-4",
        "1:30",
        "2024-01-31",
        "null",
        "",
        "~",
        "a: b",
        "<<",
        "#",
        "x\n",
    ]
    values = {"words": words, **dict.fromkeys(words, 1), "numbers": [1, 1.5, True, None]}
    text = format_yaml(values)
    assert parse_yaml(text, origin="test") == values
    assert yaml.safe_load(text) == values


def test_a_bare_name_stands_for_a_task_and_an_empty_section_for_its_defaults(tmp_path: Path) -> None:
    study = load(
        tmp_path,
        "study: a\ntask_a: multihop\ntask_b: arithmetic\nphase_a:\n",
        "task_a.train=70",
        "phase_a.lr=1",
    )
    assert (study.task_a.name, study.task_a.train, study.task_b.name) == ("multihop", 70, "arithmetic")
    assert (study.phase_a.lr, study.phase_a.epochs) == (1, 2)


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "inference: {primary: accuracy}",
            r"inference\.primary: unknown measure 'accuracy': choose one of forgetting, .*retention",
        ),
        (
            "inference: {baseline: best}",
            r"inference\.baseline: must be one of search\.strategy, random, .*got 'best'",
        ),
        (
            "inference: {baseline: difficulty_hard}\n"
            "search: {strategy: [random, difficulty_hard, random_aa]}",
            r"'random_aa' is 'random' once more.*the baseline is 'difficulty_hard'",
        ),
        (
            "inference: {baseline: difficulty_hard}\nsearch: {strategy: [difficulty_hard], seeds: {looks: "
            "[3]}}",
            r"a look judges strategies against 'difficulty_hard'",
        ),
        ("inference: {smallest_effect: 0}", r"inference\.smallest_effect: .*greater than 0"),
        ("inference: {smallest_effect: .inf}", r"inference\.smallest_effect: .*finite"),
        ("inference: {level: 0.5}", r"inference\.level: .*greater than 0\.5"),
        ("inference: {level: 95}", r"inference\.level: .*less than 1"),
        (
            "inference: {alpha: 0.05}",
            r"inference\.alpha: unknown key; choose from primary, baseline, smallest_effect",
        ),
        ("gate: true", r"gate: true measures forgetting without replay: add 0 to search\.mix, got \[0\.1\]"),
        ("search: {seed: [0], seeds: {looks: [3]}}", r"give exactly one of seed and seeds"),
        ("search: {seeds: [0, 1]}", r"seeds must be {looks: \[5, 10, 20\]}"),
        ("search: {seeds: {looks: 5}}", r"seeds must be {looks"),
        ("search: {seeds: {looks: []}}", r"seeds must be {looks"),
        ("search: {seeds: {looks: [5], step: 2}}", r"seeds must be {looks"),
        ("search: {seeds: {looks: [2, 5]}}", r"each look needs 3 to 1,000,000 seeds, got 2"),
        ("search: {seeds: {looks: [9999999999]}}", r"each look needs 3 to 1,000,000 seeds, got 9999999999"),
        ("search: {seeds: {looks: [5, 5]}}", r"looks must rise.*\[5, 5\]"),
        ("search: {seeds: {looks: [true, 5]}}", r"seeds must be {looks"),
        ("search: {looks: [5]}", r"looks are written as `seeds: {looks: \[5\]}`"),
        ("search: {strategy: random, seeds: {looks: [5]}}", r"a look judges strategies against 'random'"),
        ("search: {strategy: [random, random_aa], seeds: {looks: [5]}}", r"a look judges strategies"),
        ("search: {mix: 0, seeds: {looks: [5]}}", r"a look judges strategies.*mix \[0\.0\]"),
    ],
)
def test_a_faulty_declaration_of_inference_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, f"study: a\n{text}")


def test_looks_stand_for_the_seeds_up_to_the_last_and_are_stored_as_such(tmp_path: Path) -> None:
    study = load(tmp_path, "study: a\nsearch: {seeds: {looks: [3, 5]}}")
    assert study.search.looks == (3, 5)
    assert study.search.seed == (0, 1, 2, 3, 4)
    stored = study.model_dump(mode="json")
    assert stored["search"]["looks"] == [3, 5]
    assert validate_study(stored, origin="test") == study
    assert study.search.first_seeds(3).seed == (0, 1, 2)


def test_without_looks_nothing_is_declared_but_the_defaults(tmp_path: Path) -> None:
    study = load(tmp_path, "study: a")
    assert study.search.looks == ()
    assert study.inference.model_dump() == {
        "primary": "forgetting",
        "baseline": "random",
        "smallest_effect": None,
        "level": 0.95,
        "power": 0.8,
        "growth": 0.1,
        "baseline_draws": 1,
        "order": "together",
        "weights": None,
        "task_b_margin": None,
        "question": "equivalence",
    }
    assert not study.gate


def test_the_a_a_control_is_chosen_but_never_by_default_and_is_no_comparison(tmp_path: Path) -> None:
    assert AA not in load(tmp_path, "study: a").search.strategy
    control = "study: a\nsearch: {strategy: [random, random_aa], mix: [0.1]}"
    assert not load(tmp_path, control).search.compares("random")
    assert load(tmp_path, control.replace("[random,", "[random, difficulty_hard,")).search.compares("random")


def test_what_is_declared_of_inference_leaves_the_meaning_of_cells(study_values: dict[str, Any]) -> None:
    from sweep.planning.inputs import prepare

    plain = validate_study(study_values, origin="test")
    search = study_values["search"] | {"seeds": {"looks": [3]}}
    search.pop("seed")
    other = validate_study(
        study_values | {"search": search, "inference": {"smallest_effect": 0.01}, "gate": True}, origin="test"
    )
    assert prepare(plain).fingerprint == prepare(other).fingerprint
    assert prepare(plain).artifacts == prepare(other).artifacts


def test_two_draws_of_the_baseline_take_random_and_its_control(tmp_path: Path) -> None:
    text = "study: a\ninference: {baseline_draws: 2}\nsearch: {strategy: [random, difficulty_hard%s]}"
    assert load(tmp_path, text % ", random_aa").inference.baseline_draws == 2
    with pytest.raises(ConfigurationError, match="list both in search.strategy, got random, difficulty_hard"):
        load(tmp_path, text % "")


def test_weights_are_of_every_mix_and_of_strategies_that_are_judged_by_their_means(tmp_path: Path) -> None:
    text = "study: a\ninference: {order: %s, weights: {0.1: 2, 0.2: %s}}\nsearch: {mix: [0, 0.1, %s]}"
    weighed = load(tmp_path, text % ("strategies_only", 1, 0.2)).inference
    assert weighed.weights == {0.1: 2.0, 0.2: 1.0}
    for wrong, rule in (
        (("together", 1, 0.2), "set inference.order to strategies_first or strategies_only"),
        (("strategies_first", 1, 0.3), r"a weight, \[0.1, 0.3\]; got \[0.1, 0.2\]"),
        (("strategies_first", 0, 0.2), "greater than 0"),
        (("last", 1, 0.2), "strategies_first"),
    ):
        with pytest.raises(ConfigurationError, match=rule):
            load(tmp_path, text % wrong)
