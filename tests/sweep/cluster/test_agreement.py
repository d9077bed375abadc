"""What the nodes of a cluster must agree on, with pretended devices: T4, A100, H100, and none at all."""

from dataclasses import replace
from typing import Any

import pytest

from sweep.cluster.agreement import Begun, Node, agree, refuse, remarks
from sweep.config.errors import WorkersRefusedError
from sweep.config.study import validate_study
from trainables.worker_identity import Device, Requirement, WorkerIdentity, package_versions

MODULES = {"trainables/model/loss.py": "a", "trainables/model/lora.py": "b"}
VERSIONS = {"torch": "2.11.0", "transformers": "5.3.0", "peft": "0.18.0", "numpy": "2.3.0"}
T4 = Device("cuda", "Tesla T4", bf16=False, capability="7.5")
A100 = Device("cuda", "NVIDIA A100", bf16=True, capability="8.0")
H100 = Device("cuda", "NVIDIA H100", bf16=True, capability="9.0")
CPU, OLD_CPU = Device("cpu", "CPU", bf16=True), Device("cpu", "CPU", bf16=False)
TOO_OLD = "torch 2.11.0+cu130: The NVIDIA driver on your system is too old (found version 11040)"
ON_GPU = Requirement(MODULES, VERSIONS, on_gpu=True)
ON_CPU = replace(ON_GPU, on_gpu=False)


def node(name: str, *devices: Device, **differing: Any) -> Node:
    identity = WorkerIdentity(MODULES, VERSIONS, devices)
    return Node(name, replace(identity, **differing))


def agreed(*nodes: Node, asked: Any = "auto", begun: Begun | None = None) -> str | None:
    required = ON_CPU if nodes[0].identity and nodes[0].identity.devices[0].kind == "cpu" else ON_GPU
    return agree(nodes, required, asked=asked, begun=begun or Begun()).precision


def refusal(*nodes: Node, **options: Any) -> str:
    with pytest.raises(WorkersRefusedError) as raised:
        agreed(*nodes, **options)
    return str(raised.value)


def test_auto_is_bf16_where_every_device_has_it_and_fp32_where_none_has() -> None:
    assert agreed(node("a", H100, H100), node("b", A100)) == "bf16"
    assert agreed(node("a", T4), node("b", T4)) == "fp32"
    assert agreed(node("a", CPU)) == "bf16"
    assert agreed(node("a", OLD_CPU)) == "fp32"


@pytest.mark.parametrize("pair", [(T4, H100), (H100, T4), (OLD_CPU, CPU)], ids=str)
def test_auto_on_mixed_devices_is_refused_with_each_node_and_what_to_set(pair: tuple[Device, Device]) -> None:
    said = refusal(node("one", pair[0]), node("two", pair[1]))
    assert "one: " in said
    assert "two: " in said
    assert "model.dtype" in said
    assert "fp32" in said
    assert agreed(node("one", pair[0]), node("two", pair[1]), asked="fp32") == "fp32"


def test_a_card_that_cannot_compute_what_is_asked_or_was_begun_is_refused_by_name() -> None:
    for options in ({"asked": "bf16"}, {"begun": Begun("bf16", "NVIDIA H100")}):
        said = refusal(node("old", T4), node("new", H100), **options)
        assert "1 of 2 nodes" in said
        assert "old: Tesla T4 (compute capability 7.5) cannot compute bf16" in said
        assert "new:" not in said


def test_a_study_begun_in_fp32_stays_so_on_better_cards_and_says_it() -> None:
    nodes, begun = [node("a", H100)], Begun("fp32", "Tesla T4")
    required = agree(nodes, ON_GPU, asked="auto", begun=begun)
    assert required.precision == "fp32"
    said = "\n".join(remarks(nodes, required, begun=begun))
    assert "computed in fp32, as it was begun" in said
    assert "begun on Tesla T4, goes on on NVIDIA H100" in said


def test_every_node_that_differs_is_named_with_what_differs_and_what_to_do() -> None:
    said = refusal(
        node("good", H100),
        node("code", H100, modules=MODULES | {"trainables/model/loss.py": "c", "trainables/new.py": "d"}),
        node("versions", H100, versions=VERSIONS | {"torch": "2.10.0", "peft": "none"}),
        node("driver", no_cuda=TOO_OLD),
        Node(
            "bare",
            fault="forgetting-sweep cannot be used there: ModuleNotFoundError: No module named 'trainables'",
        ),
    )
    assert said.startswith("4 of 5 nodes cannot compute this study; nothing was computed:")
    lines = dict(line.strip().split(": ", 1) for line in said.splitlines()[1:-1])
    assert lines.keys() == {"code", "versions", "driver", "bare"}
    assert lines["code"] == "trainables/model/loss.py, trainables/new.py: not the driver's code"
    assert lines["versions"] == "torch 2.10.0, the driver has 2.11.0; peft none, the driver has 0.18.0"
    assert "too old (found version 11040)" in lines["driver"]
    assert "resources.device=cpu" in said.splitlines()[-1]


def test_a_node_that_differs_is_refused_beside_one_of_the_same_name_that_does_not() -> None:
    """As raylets on one machine are named, and machines behind one address."""
    other = node("gpu1", A100, versions=VERSIONS | {"torch": "2.10.0"})
    for pair in ((other, node("gpu1", A100)), (node("gpu1", A100), other)):
        assert "1 of 2 nodes" in refusal(*pair)


def test_many_modules_of_other_code_are_counted_not_listed() -> None:
    other = {f"trainables/{letter}.py": "x" for letter in "abcdef"}
    said = refusal(node("other", H100, modules=MODULES | other))
    assert "trainables/a.py, trainables/b.py, trainables/c.py and 3 more: not the driver's code" in said


def test_devices_and_what_slows_them_are_said_at_the_start() -> None:
    nodes = [node("a", H100, H100), node("b", A100)]
    old = replace(ON_GPU, versions=VERSIONS | {"torch": "2.9.1"}, precision="bf16")
    said = "\n".join(remarks(nodes, old, begun=Begun()))
    assert "2 x NVIDIA H100 (compute capability 9.0)" in said
    assert "computed in bf16" in said
    assert "torch 2.9.1 has no attention kernel" in said
    assert "several kinds" in said
    slow = remarks([node("a", CPU), node("b", OLD_CPU)], replace(ON_CPU, precision="bf16"), begun=Begun())
    assert slow == ["b: computes bf16 without hardware for it, slowly"]
    assert remarks([node("a", CPU)], replace(ON_CPU, precision="bf16"), begun=Begun()) == []


def test_a_builds_name_is_no_version() -> None:
    assert not any("+" in version for version in package_versions().values())


def test_nothing_is_refused_where_nothing_differs() -> None:
    refuse([], of=3)


def test_a_gpu_may_be_reserved_without_computing_on_it(study_values: dict[str, Any]) -> None:
    on_gpu = [
        validate_study(study_values | {"resources": resources}, origin="test").resources.on_gpu
        for resources in ({"gpus": 1}, {"gpus": 0.25}, {}, {"gpus": 1, "device": "cpu"}, {"device": "cpu"})
    ]
    assert on_gpu == [True, True, False, False, False]


def test_flash_attention_that_a_device_lacks_is_refused_by_name_and_so_is_fp32_with_it() -> None:
    required = replace(ON_GPU, attention="flash")
    able = replace(H100, flash=True)
    nodes = [node("new", able), node("old", H100)]
    with pytest.raises(WorkersRefusedError) as raised:
        agree(nodes, required, asked="bf16", begun=Begun())
    said = str(raised.value)
    assert "1 of 2 nodes" in said
    assert "old: NVIDIA H100 (compute capability 9.0) has no kernel for model.attention: flash" in said
    assert agree(nodes[:1], required, asked="auto", begun=Begun()).precision == "bf16"
    with pytest.raises(WorkersRefusedError, match="flash is computed in bf16 alone, and this study in fp32"):
        agree(nodes[:1], required, asked="fp32", begun=Begun())
