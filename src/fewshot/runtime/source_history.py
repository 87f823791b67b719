"""Which versions of the source code took a run's outer steps."""

import logging
from typing import Any

from lightning.pytorch.callbacks import Callback

from fewshot.runtime.distributed import rank
from fewshot.runtime.provenance import source_version

log = logging.getLogger(__name__)


class SourceHistory(Callback):
    """Keeps in each checkpoint which versions of the source code took its outer steps; warns where there are several.

    Attributes:
        earlier: versions before this process's own, the first first.
    """

    def __init__(self) -> None:
        self.earlier: list[dict[str, Any]] = []
        source_version()  # of now: files may be edited while the run goes on

    def state_dict(self) -> dict[str, Any]:
        return {"versions": [*self.earlier, source_version()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        *before, last = state_dict["versions"]
        self.earlier = before
        if last["source_sha256"] != source_version()["source_sha256"]:
            self.earlier = [*before, last]
            if rank() == 0:
                log.warning(
                    f"The source code was changed since this run began ({_name(last)} then, {_name(source_version())} now); it "
                    "goes on with today's, and results.json names both"
                )


def _name(version: dict[str, Any]) -> str:
    return f"{str(version['git_commit'])[:10]}{', edited' if version['git_dirty'] else ''}"
