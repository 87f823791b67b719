"""Finds a sentence encoder's files and loads them, running no code that they bring."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from fewshot.errors import UserError

KEPT = ("*.safetensors", "*.json", "*.txt", "*.model")
"""Files that an encoder consists of: weights, configs, and words of its tokenizer."""
LEAST = 6
"""Version of sentence-transformers from which on it refuses code that an encoder's folder brings."""
CONFIGS = ("modules.json", "config.json")
"""Files of which an encoder's folder has one at least: of sentence-transformers, of a transformer alone."""
SECONDS = 10
"""That the hub may take to say whether it has a model."""
LONGEST_REASON = 160
"""Letters of what a library says of an error."""
BLOCK = 2**22
"""Bytes hashed at a time."""

_one_at_a_time = Lock()
"""Tokenizers are none for several threads."""


@dataclass(frozen=True)
class Encoder:
    """A network of sentence-transformers. Copies of a model share it.

    Attributes:
        network: ``sentence_transformers.SentenceTransformer``, in single precision.
        sha256: of its files' names and contents.
        width: numbers of a feature.
    """

    network: Any
    sha256: bytes
    width: int

    def encode(self, sentences: Sequence[str], prompt: str | None, device: torch.device, at_once: int) -> Tensor:
        """Features ``(B, width)`` of sentences, so many at once, on a device."""
        with _one_at_a_time:
            found: Tensor = self.network.encode(
                list(sentences),
                prompt=prompt,
                batch_size=at_once,
                device=str(device),
                convert_to_tensor=True,
                show_progress_bar=False,
            )
        return found.clone()  # no tensor of inference mode

    def __deepcopy__(self, _: object) -> "Encoder":
        return self


def load_encoder(name: str) -> Encoder:
    """The encoder of a folder, or of a model on the Hugging Face hub, which is downloaded once.

    Raises:
        UserError: the package is not installed, or the files cannot be had or loaded.
    """
    if find_spec("sentence_transformers") is None or int(version("sentence-transformers").partition(".")[0]) < LEAST:
        raise UserError(
            f"model/backbone=sentence_encoder needs a package that is not installed; make extras, or pip install "
            f"'sentence-transformers>={LEAST}'"
        )
    folder = _folder(name)
    if not any((folder / config).is_file() for config in CONFIGS):
        raise UserError(
            f"model.backbone.name={name}: {folder} is no sentence encoder, which has {' or '.join(CONFIGS)}; choose another"
        )
    files = sorted(path for pattern in (*KEPT, "*.bin") for path in folder.rglob(pattern) if path.is_file())
    stamps = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _load(name, folder, stamps)


def _folder(name: str) -> Path:
    """Where an encoder's files are, once they are on this machine."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path.absolute()
    model = name if "/" in name else f"sentence-transformers/{name}"  # as that package has it
    from huggingface_hub import HfApi, constants, snapshot_download

    with suppress(Exception):  # whatever the cache lacks
        folder = Path(snapshot_download(model, allow_patterns=list(KEPT), local_files_only=True))
        if any(folder.rglob("*.safetensors")):  # the largest files, which a download that was cut off lacks
            return folder
    try:
        HfApi().model_info(model, timeout=SECONDS)  # it answers at once, or the download would try for minutes
        return Path(snapshot_download(model, allow_patterns=list(KEPT)))
    except Exception as error:  # of the hub, of its cache, or of a name that is none
        raise UserError(
            f"model.backbone.name={name} is no folder, is not in {constants.HF_HUB_CACHE}, and cannot be downloaded "
            f"({_reason(error)}); download its files elsewhere and set model.backbone.name=FOLDER"
        ) from error


@lru_cache(maxsize=1)
def _load(name: str, folder: Path, stamps: tuple[tuple[Path, int, int], ...]) -> Encoder:
    """A run builds its network several times, and reads the files once."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else they warn when workers are forked
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):  # whether it is loaded or was before, a seed draws the same head
            network = SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        width = network.float().eval().encode(["width"], show_progress_bar=False).shape[1]
    except Exception as error:  # of whatever kind a broken or foreign folder raises
        raise UserError(
            f"model.backbone.name={name}: {folder} is no sentence encoder with weights in .safetensors and no code of its own "
            f"({_reason(error)}); choose another"
        ) from error
    digest = hashlib.sha256()
    for path, size, _ in stamps:
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return Encoder(network, digest.digest(), width)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:LONGEST_REASON]}"
