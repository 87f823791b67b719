"""Sentence encoders that others trained: networks of sentence-transformers (Reimers and Gurevych 2019), frozen."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.encoder_files import load_encoder
from fewshot.errors import UserError

AT_ONCE = 64
"""Sentences that a GPU encodes together."""


class SentenceEncoder(Backbone):
    """Features of sentences, computed once for each sentence of a dataset (`fewshot.data.features`).

    A model with this backbone sees features alone. The encoder itself is no part of it: a checkpoint has the digest of its
    files, by which another encoder of the same name is refused.

    A CPU encodes sentences one by one: filling would change the last bits of a feature with the sentences that come with it.

    Args:
        image_shape: ``(L,)``, ids of a sentence, which the encoder does not look at.
        buckets: ids that there are; None of data that are no text.
        name: of a model on the Hugging Face hub, or a folder.
        prompt: put before each sentence; None takes the model's own, if it has one.

    Attributes:
        digest: of the encoder's files, 32 bytes.

    Shapes:
        B sentences, or ``(B, out_features)``, which stay as they are -> ``(B, out_features)``

    Raises:
        UserError: the data are no text, or the encoder cannot be had or loaded.
    """

    column: str | None = "text"
    digest: Tensor

    def __init__(self, image_shape: Sequence[int], buckets: int | None, name: str, prompt: str | None = None) -> None:
        super().__init__()
        self.require_ids(image_shape, buckets, "sentences", "sentences")
        self._name, self._prompt, self._encoder = name, prompt, load_encoder(name)
        self.register_buffer("digest", torch.tensor(list(self._encoder.sha256), dtype=torch.uint8))
        self.out_features = self._encoder.width
        self.input_shape = (self.out_features,)
        self.pretrained_on = "text"
        folder = Path(name).expanduser()
        called = folder.absolute().name if folder.is_dir() else name
        self.setting = f"{called} ({self._encoder.sha256.hex()[:8]})" + (f", prompt {prompt!r}" if prompt else "")

    @property
    def sha256(self) -> str:
        """Of the encoder's files and of all else that a feature depends on beside the sentence."""
        packages = [f"{package} {version(package)}" for package in ("sentence-transformers", "transformers")]
        return hashlib.sha256(f"{packages} {self._encoder.sha256.hex()} {self._prompt!r}".encode()).hexdigest()

    def forward(self, x: Tensor | Sequence[str]) -> Tensor:
        if not isinstance(x, Tensor):
            device = self.digest.device
            return self._encoder.encode(x, self._prompt, device, at_once=1 if device.type == "cpu" else AT_ONCE)
        if not x.is_floating_point():
            raise TypeError("ids are no features; compute these first, as fewshot.runtime.features.use_features does")
        return x

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        kept = state_dict.get(f"{prefix}digest")
        if kept is not None and kept.tolist() != self.digest.tolist():
            raise UserError(
                f"model.backbone.name={self._name} is another encoder than the one that the checkpoint was made with: other "
                "files; put those back, or train anew"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)
