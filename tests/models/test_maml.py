"""MAML as a LightningModule: its outer step, and that evaluation leaves nothing behind."""

import warnings

import lightning as L
import pytest
import torch
from torch import nn

from fewshot.backbones.conv4 import Conv4
from fewshot.backbones.resnet12 import ResNet12
from fewshot.errors import UserError
from fewshot.inner.unrolled import Unrolled
from fewshot.models.checkpoint_entry import shapes_of
from fewshot.models.maml import MAML
from fewshot.runtime.callbacks import SaveLast
from fewshot.runtime.environment import quieten
from fewshot.tasks.batch import TaskRows
from tests.toy import Toy


def make_model(*, seed=0, backbone=None, **changes):
    torch.manual_seed(seed)
    arguments = {
        "backbone": backbone or Conv4((1, 16, 16), filters=4, downsample="stride", global_pool=True),
        "ways": 3,
        "eval_ways": 3,
        "inner": Unrolled(lr=0.4, steps=1, eval_steps=3),
        "engine": "learn2learn",
        "batch_norm": "transductive",
        "optimizer": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    }
    return MAML(**(arguments | changes))


def make_trainer(tmp_path, max_steps=4, **options):
    quieten()
    return L.Trainer(
        **{
            "max_steps": max_steps,
            "max_epochs": 1,
            "accelerator": "cpu",
            "inference_mode": False,
            "num_sanity_val_steps": 0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
            "log_every_n_steps": 1,
        }
        | options
    )


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_outer_steps_are_those_of_algorithm_1(toy_data, tmp_path):
    """Three steps of Lightning's loop, against the same three written out."""
    descent = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.5)}
    data, model, expected = toy_data(), make_model(**descent).double(), make_model(**descent).double()
    scaled = data.scaled  # in double precision, whose rounding is small on any processor
    data.scaled = lambda batch: [part.with_inputs(part.support_x.double(), part.query_x.double()) for part in scaled(batch)]
    trainer = make_trainer(tmp_path, max_steps=3, limit_val_batches=0)
    trainer.fit(model, data)
    assert trainer.global_step == 3

    optimizer = torch.optim.SGD(expected.network.parameters(), lr=0.5)
    batches = data.meta_batches("train", 12)
    for i in range(3):
        losses = []
        for task in data.scaled(batches[i])[0]:
            parameters = dict(expected.network.named_parameters())
            loss = nn.functional.cross_entropy(expected.network(task.support_x), task.support_y)
            moving = [name for name in parameters if not name.endswith((".1.weight", ".1.bias"))]  # all but the batch norms
            slopes = torch.autograd.grad(loss, [parameters[name] for name in moving], create_graph=True)
            parameters |= {name: parameters[name] - 0.4 * slope for name, slope in zip(moving, slopes, strict=True)}
            outputs = torch.func.functional_call(expected.network, parameters, task.query_x)
            losses.append(nn.functional.cross_entropy(outputs, task.query_y))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-10, atol=1e-10)


def test_validation_and_test_change_nothing(toy_data, tmp_path):
    """In one process, where Lightning's inference mode would break the inner loop."""
    data, model = toy_data(), make_model()
    before = snapshot(model)
    trainer = make_trainer(tmp_path)
    (val,) = trainer.validate(model, data, verbose=False)
    (test,) = trainer.test(model, data, verbose=False)
    assert equal(snapshot(model), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (len(model.scores["val"].index), len(model.scores["test"].index)) == (10, 14)
    assert val["val/acc"] == pytest.approx(model.scores["val"].deciding[:, -1].mean())
    assert test["test/loss"] == pytest.approx(model.scores["test"].loss[:, -1].mean())


def test_training_with_and_without_validation_gives_the_same_weights(toy_data, tmp_path):
    weights = []
    for limit in (0, 1.0):
        model = make_model()
        make_trainer(tmp_path, limit_val_batches=limit, val_check_interval=1, check_val_every_n_epoch=None).fit(
            model, toy_data()
        )
        weights.append(snapshot(model))
    assert equal(*weights)


def test_accuracy_and_loss_are_those_of_the_queries(toy_data):
    data, model = toy_data(), make_model()
    data.setup("validate")
    batch = data.scaled(data.meta_batches("val", 4)[0])[0]
    outputs = model.evaluate(batch)
    targets = batch.query_y[:, None].expand(outputs.shape[:-1])
    accuracy, losses = model.objective.scores(outputs, targets)["acc"], model.query_losses(outputs, targets).mean(dim=-1)
    for t in range(4):
        for step in range(4):
            hits = [int(row.argmax()) == int(label) for row, label in zip(outputs[t, step], batch.query_y[t], strict=True)]
            assert accuracy[t, step] == sum(hits) / len(hits)
            loss = nn.functional.cross_entropy(outputs[t, step], batch.query_y[t]).item()
            assert losses[t, step].item() == pytest.approx(loss, rel=1e-6)


def test_the_schedule_moves_once_an_outer_step(toy_data, tmp_path):
    model = make_model(scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
    trainer = make_trainer(tmp_path, max_steps=3, limit_val_batches=0)
    trainer.fit(model, toy_data())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.5**3)


def test_the_meta_gradient_is_clipped(toy_data, tmp_path):
    """With plain gradient descent the largest change is the rate times the bound."""
    model = make_model(optimizer=lambda p: torch.optim.SGD(p, lr=1.0), gradient_clip={"val": 1e-3, "algorithm": "value"})
    before = snapshot(model)
    make_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(model, toy_data())
    change = max((value - before[name]).abs().max().item() for name, value in snapshot(model).items())
    assert change == pytest.approx(1e-3, rel=1e-3)


def test_checkpoints_count_outer_steps_and_load_as_plain_data(toy_data, tmp_path):
    saved = SaveLast(dirpath=str(tmp_path), every_n_steps=2)
    model = make_model()
    make_trainer(tmp_path, callbacks=[saved], enable_checkpointing=True).fit(model, toy_data())
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["global_step"] == 4
    assert content["fewshot"]["model"] == "MAML"
    assert equal(content["state_dict"], snapshot(model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fewshot": None}, "the checkpoint is not one of this project's"),
        ({"fewshot": {"schema": 99}}, "the checkpoint is not one of this project's"),
        (
            {"fewshot": {"schema": 1, "model": "ProtoNet", "shapes": {}}},
            "the checkpoint is of model ProtoNet, the config asks for MAML",
        ),
        (
            {"fewshot": {"schema": 1, "model": "MAML", "shapes": {}}},
            "the checkpoint's network has features.blocks.0.0.bias of shape None",
        ),
        (
            {"fewshot": {"schema": 1, "model": "MAML", "shapes": shapes_of(make_model().network)}},
            "the checkpoint does not hold what it lists",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(change, message):
    with pytest.raises(UserError) as error:
        make_model().on_load_checkpoint({"state_dict": {}, **change})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(4),
        nn.BatchNorm1d(4, affine=False, track_running_stats=False),
        nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
    ],
)
def test_a_backbone_through_which_tasks_reach_each_other_is_refused(norm):
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(256, 4), norm)
    backbone.out_features, backbone.input_shape = 4, (1, 16, 16)
    with pytest.raises(UserError, match=r"model\.backbone: features\.2 \(\w+Norm1d\) keeps running statistics"):
        make_model(backbone=backbone)


@pytest.mark.parametrize(
    "backbone", [ResNet12((1, 16, 16), widths=(2, 2, 2, 2), drop_rate=0.1), nn.Sequential(nn.Flatten(), nn.AlphaDropout())]
)
def test_a_backbone_that_forgets_at_random_is_refused(backbone):
    with pytest.raises(UserError, match=r"model\.backbone\.drop_rate"):
        make_model(backbone=backbone)


def test_tasks_of_fewer_ways_use_the_first_outputs(toy_data):
    model = make_model(ways=3, eval_ways=2)
    assert model.network.head.out_features == 3
    data = toy_data()
    data.setup("validate")
    batch = data.scaled(data.meta_batches("val", 2)[0])[0]
    two = {
        name: getattr(batch, name)[:, : rows * 2]
        for name, rows in (("support_x", 1), ("support_y", 1), ("query_x", 4), ("query_y", 4))
    }
    outputs = model.evaluate(type(batch)(**two, rows=TaskRows(batch.index)))
    assert outputs.shape == (2, 4, 8, 2)


def test_more_ways_than_the_head_has_are_refused():
    with pytest.raises(UserError, match=r"data\.eval\.ways=5 but the network tells 3 classes apart"):
        make_model(ways=3, eval_ways=5)


@pytest.mark.slow
def test_it_learns_to_learn(toy_data, tmp_path):
    """On patterns never seen: at chance before adaptation, far above after it, and far above its own start.

    In a trainer, inductively; what every model has to learn (`ModelTester`) is learned transductively, in both orders.
    """
    data = toy_data(source=Toy(classes=60), val_tasks=60)
    model = make_model(
        backbone=Conv4((1, 16, 16), filters=8, downsample="stride"),
        inner=Unrolled(lr=0.4, steps=1, eval_steps=2),
        batch_norm="inductive",
    )
    make_trainer(tmp_path).validate(model, data, verbose=False)
    start = model.scores["val"].final
    make_trainer(tmp_path, max_steps=120, limit_val_batches=0).fit(model, data)
    make_trainer(tmp_path).validate(model, data, verbose=False)
    trained = model.scores["val"]
    assert trained.deciding[:, 0].mean() == pytest.approx(1 / 3, abs=0.1)
    assert trained.final.mean > 0.65, "chance is 0.33"
    assert trained.final.mean > start.mean + 0.1


def test_the_protocol_says_what_was_done():
    description = make_model(
        inner=Unrolled(lr=0.4, steps=2, eval_steps=3, first_order=True), batch_norm="inductive"
    ).description
    expected = {"model": "MAML", "engine": "learn2learn", "batch_norm": "inductive", "transductive": False, "order": 1,
                "backbone": "Conv4", "inner_lr": 0.4, "train_steps": 2, "eval_steps": 3, "adapt_norm": False}  # fmt: skip
    assert expected.items() <= description.items()


def test_nothing_is_warned_of(toy_data, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quieten()
        make_trainer(tmp_path, max_steps=1).fit(make_model(), toy_data())
