"""Several checkpoints as one model: the mean of what each says by itself."""

import pytest
import torch

from fewshot.backbones.conv4 import Conv4
from fewshot.errors import UserError
from fewshot.inner.unrolled import Unrolled
from fewshot.models.ensemble import Ensemble
from fewshot.models.maml import MAML
from fewshot.models.protonet import ProtoNet
from fewshot.objectives import Regression
from fewshot.runtime.checkpoints import PARTS, top_checkpoints
from tests.models.model_tester import random_tasks, sgd


def maml(seed, **changes):
    torch.manual_seed(seed)
    backbone, inner = Conv4((1, 16, 16), filters=4, downsample="stride"), Unrolled(lr=0.4, steps=1, eval_steps=2)
    return MAML(backbone, 3, 3, inner, "functional", "transductive", sgd, **changes)


def protonet(seed):
    torch.manual_seed(seed)
    return ProtoNet(Conv4((1, 16, 16), filters=4, downsample="stride"), "running", sgd)


@pytest.mark.parametrize("make", [maml, protonet])
def test_probabilities_are_the_mean_of_those_of_each_checkpoint(make):
    batch, members = random_tasks(), [make(seed) for seed in range(3)]
    single = torch.stack([member.evaluate(batch).softmax(dim=-1) for member in members])
    ensemble = Ensemble(make(7), [member.state_dict() for member in members])
    found = ensemble.evaluate(batch).softmax(dim=-1)
    torch.testing.assert_close(found, single.mean(dim=0), rtol=0, atol=1e-6)
    assert (found - single).abs().amax(dim=(1, 2, 3, 4)).min() > 1e-4
    assert ensemble.description == members[0].description | {"ensemble": 3}


def test_probabilities_too_small_for_a_number_have_a_finite_logarithm(monkeypatch):
    """Else a task of sure answers would count as one whose outputs are not finite."""
    model, outputs = maml(0), torch.tensor([[[[0.0, -300.0]]]])
    monkeypatch.setattr(model, "evaluate", lambda _: outputs)
    assert torch.equal(Ensemble(model, [model.state_dict()] * 2).evaluate(random_tasks()), outputs)


@pytest.mark.parametrize("make", [maml, protonet])
def test_it_takes_no_outer_step_and_adds_no_gradient(make):
    model, batch = make(0), random_tasks()
    ensemble = Ensemble(model, [make(seed).state_dict() for seed in range(2)])
    losses, outputs = ensemble.meta_gradient(batch)
    said = torch.stack([outputs[task].log_softmax(dim=-1)[range(12), batch.query_y[task]] for task in range(len(batch))])
    torch.testing.assert_close(losses, -said.mean(dim=1))
    assert torch.equal(outputs, ensemble.evaluate(batch)[:, -1])
    assert not ensemble.takes_outer_steps
    assert all(parameter.grad is None for parameter in ensemble.parameters())


def test_values_are_the_mean_of_those_of_each_checkpoint():
    objective, batch = Regression("rmse", "min"), random_tasks()
    members = [maml(seed, objective=objective) for seed in range(2)]
    batch = batch.__class__(batch.support_x, batch.support_y.float(), batch.query_x, batch.query_y.float(), batch.rows)
    found = Ensemble(maml(7, objective=objective), [member.state_dict() for member in members]).evaluate(batch)
    torch.testing.assert_close(found, (members[0].evaluate(batch) + members[1].evaluate(batch)) / 2)


@pytest.mark.parametrize(("mode", "steps"), [("max", [5, 3]), ("min", [1, 3])])
def test_a_checkpoint_whose_figure_is_not_finite_comes_last(tmp_path, mode, steps):
    (tmp_path / "checkpoints/top").mkdir(parents=True)
    for step, figure in {1: 0.1, 2: torch.nan, 3: 0.3, 4: torch.nan, 5: 0.5}.items():
        content = {key: {} for key in PARTS} | {"global_step": step, "fewshot": {"val_metrics": {"val/loss": figure}}}
        torch.save(content, tmp_path / f"checkpoints/top/step={step}.ckpt")
    assert [content["global_step"] for content in top_checkpoints(tmp_path, 2, "loss", mode)] == steps


@pytest.mark.parametrize(("monitor", "mode", "steps"), [("acc", "max", [3, 1]), ("rmse", "min", [2, 4])])
def test_the_best_on_validation_come_first_and_of_equals_the_earliest(tmp_path, monitor, mode, steps):
    for step, figure in {1: 0.5, 2: 0.2, 3: 0.7, 4: 0.5}.items():
        path = tmp_path / f"checkpoints/top/step={step}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        metrics = {"val/acc": figure, "val/rmse": figure if step != 1 else 0.6}
        torch.save({key: {} for key in PARTS} | {"global_step": step, "fewshot": {"val_metrics": metrics}}, path)
    assert [content["global_step"] for content in top_checkpoints(tmp_path, 2, monitor, mode)] == steps
    with pytest.raises(UserError, match=r"ensemble=5 but .* has kept 4 checkpoints for it: choose at most 4, or train with"):
        top_checkpoints(tmp_path, 5, monitor, mode)
