"""torchvision's networks as frozen features: random weights here, no network."""

import pytest
import torch
import torch.nn.functional as F
from torchvision import models

from fewshot.backbones.pretrained import Pretrained
from fewshot.errors import UserError
from fewshot.inner.engine import engine_kind
from fewshot.inner.unrolled import Unrolled
from fewshot.models.maml import MAML
from fewshot.models.protonet import ProtoNet
from fewshot.models.r2d2 import R2D2
from tests.models.model_tester import outer_step, random_tasks, sgd, snapshot

SHAPE = (1, 16, 16)


def make(**changes):
    torch.manual_seed(0)
    return Pretrained(**({"image_shape": SHAPE, "name": "resnet18", "weights": None, "side": 32, "cached": 100} | changes))


@pytest.fixture(scope="module")
def backbone():
    return make()


def counted(backbone):
    """The numbers of images that the network computes from now on."""
    sizes = []
    backbone.network.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    return sizes


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


def test_an_image_is_computed_once():
    backbone = make()
    sizes = counted(backbone)
    x = torch.rand(5, *SHAPE)
    first = backbone(x[[0, 1, 2, 1]])
    assert torch.equal(first[1], first[3])
    again = backbone(x[[3, 2, 0]])
    assert sizes == [1] * 4
    assert torch.equal(again[1:], first[[2, 0]])


@pytest.mark.parametrize("cached", [0, 100])
def test_the_bits_do_not_depend_on_what_is_computed_with_it(cached):
    x = torch.rand(5, *SHAPE)
    assert torch.equal(make(cached=cached)(x)[[3]], make(cached=cached)(x[[3]]))


@pytest.mark.parametrize("kind", ["functional", "vectorized"])
def test_threads_of_an_inner_loop_share_what_is_known(kind, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    network = torch.nn.Sequential(make(), torch.nn.Linear(512, 3))
    inner = Unrolled(lr=0.1, steps=2, eval_steps=2, adapt=("1.*",))
    engine = engine_kind(kind)(network, inner, inner.new_rates(network), F.cross_entropy, "transductive")
    sizes, batch = counted(network[0]), random_tasks(tasks=4)
    for _ in range(3):
        engine.meta_gradient(batch, 4)
    assert sum(sizes) == 4 * (batch.support_x.shape[1] + batch.query_x.shape[1])


def test_the_oldest_are_forgotten_first():
    backbone = make(cached=2)
    sizes = counted(backbone)
    x = torch.rand(4, *SHAPE)
    for row in (0, 1, 2, 2, 0):
        backbone(x[[row]])
    assert sizes == [1, 1, 1, 1]


def test_without_a_cache_features_are_the_same(backbone):
    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(make(cached=0)(x), backbone(x))


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


def test_a_model_with_nothing_to_learn_says_so(backbone):
    model = ProtoNet(backbone=backbone, batch_norm="running", optimizer=sgd)
    assert model.evaluate(random_tasks()).shape == (3, 1, 12, 3)
    with pytest.raises(UserError, match="control=random_init"):
        model.configure_optimizers()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "resnet17"}, r"model\.backbone\.name=resnet17 is unknown"),
        ({"weights": "IMAGENET1K_V9"}, r"model\.backbone\.weights=IMAGENET1K_V9 is unknown for resnet18; did you mean"),
        ({"image_shape": (2, 16, 16)}, r"data\.image_shape=\[2, 16, 16\] has neither 1 nor 3 channels"),
        ({"side": 8}, r"model\.backbone\.side=8 must be"),
        ({"name": "squeezenet1_0", "side": 8}, r"model\.backbone\.side=8"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)


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
