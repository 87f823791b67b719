"""The recipes of the methods that adapt by gradient, as composed: published numbers, and schedules that move."""

from itertools import pairwise

import pytest
import torch
from hydra.utils import instantiate

from fewshot.inner.inner_loop import InnerLoop


def composed(compose_config, folder, experiment, model):
    return compose_config(folder, f"model={model}", experiment=experiment)


@pytest.mark.parametrize(
    ("model", "experiment", "lr", "steps", "eval_steps", "meta_batch_size"),
    [
        ("mamlpp", "omniglot_5w1s", 0.1, 5, 5, 8),
        ("mamlpp", "omniglot_20w5s", 0.1, 5, 5, 8),
        ("mamlpp", "miniimagenet_5w5s", 0.01, 5, 5, 2),
        ("reptile", "omniglot_5w1s", 0.001, 3, 5, 10),
        ("reptile", "miniimagenet_5w1s", 0.001, 15, 10, 10),
        ("cavia", "miniimagenet_5w1s", 1.0, 2, 2, 16),
        ("imaml", "omniglot_5w1s", 0.1, 16, 16, 32),
        ("metasgd", "omniglot_20w1s", 2.0, 1, 1, 16),
        # Where a paper says nothing, MAML's recipe for the experiment holds.
        ("anil", "omniglot_5w1s", 2.0, 1, 3, 16),
        ("boil", "miniimagenet_5w1s", 0.5, 1, 1, 4),
    ],
)
def test_recipes_are_the_published_ones(compose_config, tmp_path, model, experiment, lr, steps, eval_steps, meta_batch_size):
    """From the papers and their code; rates are on the mean support loss."""
    cfg = composed(compose_config, tmp_path, experiment, model)
    inner = instantiate(cfg.model.inner, _convert_="all")
    assert isinstance(inner, InnerLoop)
    assert (inner.lr, inner.steps, inner.eval_steps, cfg.data.meta_batch_size) == (lr, steps, eval_steps, meta_batch_size)


def rates_over(cfg, optimizer):
    """The outer learning rate at every outer step."""
    schedule = instantiate(cfg.model.scheduler)(optimizer)
    rates = []
    for _ in range(cfg.trainer.max_steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return [*rates, schedule.get_last_lr()[0]]


@pytest.mark.parametrize(("model", "end"), [("mamlpp", 1e-5), ("reptile", 0.0)])
@pytest.mark.parametrize("experiment", ["glyphs_5w1s", "omniglot_5w1s", "miniimagenet_5w1s"])
def test_schedules_really_move(compose_config, tmp_path, experiment, model, end):
    """MAML++'s published cosine for mini-ImageNet ends at the rate it begins with; Reptile's step size ends at 0."""
    cfg = compose_config(tmp_path, f"model={model}", "trainer.max_steps=40", experiment=experiment)
    weight = torch.nn.Parameter(torch.zeros(1))
    rates = rates_over(cfg, instantiate(cfg.model.optimizer)([weight]))
    assert rates[0] >= 0.001
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert rates[-1] == pytest.approx(end, abs=1e-9)


@pytest.mark.parametrize("experiment", ["glyphs_5w1s", "omniglot_20w5s", "miniimagenet_5w1s"])
def test_reptile_trains_on_15_images_of_each_class_and_moves_by_the_whole_displacement_at_first(
    compose_config, tmp_path, experiment
):
    cfg = composed(compose_config, tmp_path, experiment, "reptile")
    assert cfg.data.train.shots + cfg.data.train.queries == 15
    assert cfg.model.optimizer._target_ == "torch.optim.SGD"
    assert (cfg.model.optimizer.lr, cfg.model.gradient_clip) == (1.0, None)
    assert instantiate(cfg.model.inner, _convert_="all").optimizer.keywords == {"betas": [0.0, 0.999]}
