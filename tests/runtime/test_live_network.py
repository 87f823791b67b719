"""Whatever is looked at, training goes on from its own weights; who changes them ends the run."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from fewshot.runtime.train import train


class Moves(Callback):
    """Changes one weight."""

    def on_validation_end(self, trainer, pl_module):
        with torch.no_grad():
            next(iter(pl_module.network.parameters())).view(-1)[0] += 1e-6


class Replaces(Callback):
    """Puts an equal parameter in the place of another."""

    def on_validation_start(self, trainer, pl_module):
        name, parameter = next(iter(pl_module.network.named_parameters()))
        owner = pl_module.network.get_submodule(name.rpartition(".")[0])
        setattr(owner, name.rpartition(".")[2], torch.nn.Parameter(parameter.detach().clone()))


@pytest.mark.parametrize("kind", [Moves, Replaces])
def test_a_callback_that_changes_the_network_ends_the_run(quick_config, tmp_path, kind):
    meddler = f"+callbacks.meddler={{_target_: {__name__}.{kind.__name__}}}"
    with pytest.raises(RuntimeError, match=r"validation or a callback has changed network\.\S+: training would not go on from"):
        train(quick_config(tmp_path, meddler))
