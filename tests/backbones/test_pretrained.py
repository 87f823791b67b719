"""torchvision's networks, frozen or trained in parts: random weights here, no network."""

import pytest
import torch
from torchvision import models

from fewshot.backbones.pretrained import Pretrained
from fewshot.backbones.pretrained_backbone import Preprocessing, PretrainedBackbone
from fewshot.errors import UserError
from fewshot.inner.unrolled import Unrolled
from fewshot.models.maml import MAML
from fewshot.models.protonet import ProtoNet
from fewshot.models.r2d2 import R2D2
from tests.models.model_tester import outer_step, random_tasks, sgd, snapshot

SHAPE = (1, 16, 16)


def make(**changes):
    torch.manual_seed(0)
    return Pretrained(**({"image_shape": SHAPE, "name": "resnet18", "weights": None, "side": 32} | changes))


@pytest.fixture(scope="module")
def backbone():
    return make()


def test_features_are_those_of_torchvision(backbone):
    """Enlarged and normalised by hand, through the same weights."""
    torch.manual_seed(0)
    reference = models.resnet18(weights=None).eval()
    reference.fc = torch.nn.Identity()
    x = torch.rand(3, *SHAPE)
    large = torch.nn.functional.interpolate(x, (32, 32), mode="bilinear").repeat(1, 3, 1, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        expected = reference((large - mean) / std)
    torch.testing.assert_close(backbone(x), expected)
    assert backbone.out_features == 512


def test_results_call_it_by_its_network_weights_and_size(backbone, monkeypatch):
    assert backbone.title == "Pretrained resnet18, 32 px"
    state = backbone.network.state_dict()
    monkeypatch.setattr("fewshot.backbones.pretrained._downloaded", lambda _: models.resnet18().state_dict() | state)
    title = make(weights="DEFAULT", train=["layer4.1.*"]).title
    assert title == "Pretrained resnet18 IMAGENET1K_V1, 32 px, trained: layer4.1.*"


def test_the_bits_do_not_depend_on_what_is_computed_with_it(backbone):
    x = torch.rand(5, *SHAPE)
    assert torch.equal(backbone(x)[[3]], backbone(x[[3]]))


def test_features_pass_as_they_are(backbone):
    x = backbone(torch.rand(2, *SHAPE))
    assert backbone(x) is x


def test_what_images_are_normalised_by_is_undone(backbone):
    x = torch.rand(3, *SHAPE)
    torch.testing.assert_close(make(data_mean=[0.3], data_std=[0.2])((x - 0.3) / 0.2), backbone(x), rtol=1e-4, atol=1e-4)


def test_parts_of_it_learn_and_its_statistics_stay():
    backbone = make(train=["layer4.1.*"])
    learning = {name for name, p in backbone.network.named_parameters() if p.requires_grad}
    assert learning == {"layer4.1.conv1.weight", "layer4.1.conv2.weight"}
    model = ProtoNet(backbone=backbone, batch_norm="running", optimizer=sgd).train()
    assert model.takes_outer_steps
    state = snapshot(model)
    outer_step(model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1), random_tasks())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, state[name])}
    assert changed == {f"{place}.network.{name}" for name in learning for place in ("network.features", "_backbone")}


def test_an_inner_loop_leaves_it_alone(backbone):
    def model(**options):
        inner = Unrolled(lr=0.1, steps=1, eval_steps=1, **options)
        return MAML(backbone, ways=3, eval_ways=3, inner=inner, engine="auto", batch_norm="transductive", optimizer=sgd)

    with pytest.raises(UserError, match=r"features\.\*'\] names weights of Pretrained, which are frozen; .*adapt=\[head\.\*\]"):
        model(adapt=("features.*",))
    learner = model()
    assert learner.inner.adapted_names(learner.network) == ["head.weight", "head.bias"]


def test_it_stays_as_it_was_loaded(backbone):
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    model = R2D2(penalty=1.0, scale=5.0, backbone=backbone, batch_norm="running", optimizer=sgd).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    state = snapshot(model)
    for seed in range(2):
        outer_step(model, optimizer, random_tasks(seed=seed))
    assert not backbone.training
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, state[name])}
    assert changed == {"network.regression.log_penalty", "network.regression.scale"}


def test_a_model_with_nothing_to_learn_takes_no_outer_step(backbone):
    model = ProtoNet(backbone=backbone, batch_norm="running", optimizer=sgd)
    assert model.evaluate(random_tasks()).shape == (3, 1, 12, 3)
    assert not model.takes_outer_steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "resnet17"}, r"model\.backbone\.name=resnet17 is unknown"),
        ({"weights": "IMAGENET1K_V9"}, r"model\.backbone\.weights=IMAGENET1K_V9 is unknown for resnet18; did you mean"),
        ({"image_shape": (2, 16, 16)}, r"data\.image_shape=\[2, 16, 16\] has neither 1 nor 3 channels"),
        (
            {"train": ["layer5.*"]},
            r"model\.backbone\.train=\['layer5\.\*'\]: layer5\.\* names no weight that can learn; .*, as in \[layer4\*\]$",
        ),
        ({"side": 8}, r"model\.backbone\.side=8 must be"),
        ({"name": "squeezenet1_0", "side": 8}, r"model\.backbone\.side=8"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_normalisation_is_that_of_the_weights(monkeypatch):
    """EfficientNetV2-L was trained with other numbers than the rest; GoogLeNet and Inception change images themselves."""
    network = models.resnet18(weights=None)
    network.transform_input = False
    monkeypatch.setattr(models, "get_model", lambda _name, **_weights: network)
    backbone = make(name="efficientnet_v2_l")
    assert backbone.mean.flatten().tolist() == backbone.std.flatten().tolist() == [0.5] * 3
    assert network.transform_input


def test_a_size_that_the_network_does_not_take_is_said():
    network, preprocessing = torch.nn.Conv2d(3, 4, 64), Preprocessing(32, "bilinear", [0.5] * 3, [0.5] * 3)
    with pytest.raises(UserError, match=r"model\.backbone\.side=32: a network takes no images of that size \(.*Kernel size"):
        PretrainedBackbone(SHAPE, network, "a network", "a network", preprocessing)


def test_it_can_be_exported_for_any_number_of_images():
    network, preprocessing = torch.nn.Conv2d(3, 4, 32), Preprocessing(32, "bilinear", [0.5] * 3, [0.5] * 3)
    backbone, x = PretrainedBackbone(SHAPE, network, "a network", "a network", preprocessing), torch.rand(5, *SHAPE)
    program = torch.export.export(backbone, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    for images in (x, x[:2]):
        torch.testing.assert_close(program(images), backbone(images))


def test_weights_that_a_checkpoint_brings_are_not_read(monkeypatch, backbone):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("downloaded"))
    again = make(weights="IMAGENET1K_V1", load=False)
    again.load_state_dict(backbone.state_dict())
    x = torch.rand(2, *SHAPE)
    assert torch.equal(again(x), backbone(x))
    assert again.pretrained_on == "ImageNet"


def test_weights_that_are_not_to_be_had_are_said(monkeypatch, tmp_path):
    """A file of another checksum: the whole path of loading, but for the network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights = models.ResNet18_Weights.IMAGENET1K_V1
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / weights.url.rpartition("/")[2]).write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be had"):
        make(weights="IMAGENET1K_V1")


def test_a_file_that_is_there_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.manual_seed(3)
    published = models.resnet18(weights=None)
    name = models.ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save(published.state_dict(), tmp_path / "checkpoints" / name)
    assert torch.equal(make(weights="IMAGENET1K_V1").network.conv1.weight, published.conv1.weight)
