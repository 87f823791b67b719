"""Features of a frozen network in the place of a dataset's images."""

import json
import pickle
from dataclasses import replace

import pytest
import torch
from torchvision.transforms import v2

from fewshot.data import features as module
from fewshot.data.features import compute_features
from fewshot.errors import UserError
from fewshot.runtime.train import train
from tests.data.fakes import refusal
from tests.toy import Toy

CPU = torch.device("cpu")
ROWS = 8
"""Images between two savings here."""


class Network:
    """Sums of the quarters of an image; it remembers how many images it has seen, and can be stopped."""

    out_features, column = 4, None

    def __init__(self, sha256="a", stop_after=None):
        self.sha256, self.seen, self._stop_after = sha256, 0, stop_after

    def __call__(self, x):
        if self._stop_after is not None and self.seen >= self._stop_after:
            raise KeyboardInterrupt
        self.seen += len(x)
        return x.unflatten(3, (2, 8)).unflatten(2, (2, 8)).sum(dim=(1, 3, 5)).flatten(1)


def scale(x):
    return x.float() / 255


@pytest.fixture
def data(toy_data, monkeypatch):
    monkeypatch.setattr(module, "ROWS", ROWS)
    return toy_data()


def computed(data, network):
    ((images, _),) = data.prepared["val"].pieces
    return compute_features(images, network, scale, CPU, print)


def expected(data):
    ((images, _),) = data.prepared["val"].pieces
    return Network()(scale(images.x))


def test_each_row_is_computed_once(data):
    network = Network()
    found = computed(data, network)
    assert network.seen == 10 * 12
    torch.testing.assert_close(found.x, expected(data), rtol=0, atol=0)
    assert torch.equal(computed(data, network).x, found.x)
    assert network.seen == 10 * 12
    assert pickle.loads(pickle.dumps(found)).path == found.path  # noqa: S301
    assert len(pickle.dumps(found)) < 1000


def test_other_weights_and_other_scales_have_features_of_their_own(data):
    ((images, _),) = data.prepared["val"].pieces
    first = computed(data, Network())
    others = [
        computed(data, Network("b")),
        compute_features(images, Network(), v2.ToDtype(torch.float32, scale=True), CPU, print),
        compute_features(replace(images, images_sha256="c"), Network(), scale, CPU, print),
    ]
    assert len({features.path for features in (first, *others)}) == 4


def test_what_a_stopped_process_has_computed_is_kept(data):
    first = Network(stop_after=5 * ROWS)
    with pytest.raises(KeyboardInterrupt):
        computed(data, first)
    second = Network()
    assert torch.equal(computed(data, second).x, expected(data))
    assert first.seen + second.seen == 10 * 12


def test_what_is_computed_is_read_where_nothing_can_be_written(data, monkeypatch):
    first, network = computed(data, Network()).path, Network()

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "locked", refused)
    assert computed(data, network).path == first
    assert network.seen == 0
    with pytest.raises(UserError, match=r"features cannot be kept in .* \(Permission denied\)"):
        computed(data, Network("b"))


class Names(Network):
    """Reads the names of a column; its features are the numbers in them."""

    column = "patient"

    def __call__(self, x):
        super().__call__(torch.zeros(len(x), 1, 16, 16))
        return torch.tensor([[float(name.removeprefix("patient"))] * 4 for name in x])


def test_a_network_may_take_the_values_of_a_column(toy_data, monkeypatch):
    """Sentences are such. What a stopped process has computed is kept, and other values have features of their own."""
    monkeypatch.setattr(module, "ROWS", ROWS)
    data = toy_data(source=Toy(patients=5))
    with pytest.raises(KeyboardInterrupt):
        computed(data, first := Names(stop_after=5 * ROWS))
    found = computed(data, second := Names())
    assert found.x[:, 0].tolist() == [float(row % 5) for _ in range(10) for row in range(12)]
    assert (first.seen, second.seen) == (5 * ROWS, 10 * 12 - 5 * ROWS)
    ((images, _),) = data.prepared["val"].pieces
    others = replace(images, columns={"patient": images.columns["patient"][::-1]})
    assert compute_features(others, Names(), scale, CPU, print).path != found.path


@pytest.mark.parametrize("damage", ["part", "json", "longer"])
def test_a_part_that_is_damaged_is_not_believed(data, damage):
    with pytest.raises(KeyboardInterrupt):
        computed(data, Network(stop_after=5 * ROWS))
    ((images, _),) = data.prepared["val"].pieces
    (part,) = images.folder.glob("features-*.part")
    if damage == "part":
        content = bytearray(part.read_bytes())
        content[-20] ^= 1
        part.write_bytes(content)
    elif damage == "json":
        part.with_suffix(".json").write_text("{")
    else:  # rows that were written and not yet noted are written again
        part.write_bytes(part.read_bytes() + bytes(7))
    network = Network()
    assert torch.equal(computed(data, network).x, expected(data))
    assert network.seen == 10 * 12 - (5 * ROWS if damage == "longer" else 0)


def test_a_file_that_was_changed_is_computed_anew(data):
    path = computed(data, Network()).path
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    network = Network()
    assert torch.equal(computed(data, network).x, expected(data))
    assert network.seen == 10 * 12


def test_features_that_are_not_finite_are_refused_and_not_kept(data):
    class Broken(Network):
        def __call__(self, x):
            found = super().__call__(x)
            found[1, 2] = torch.nan
            return found

    said = refusal(computed, data, Broken())
    assert "feature of row 1 of toy val is not finite; check model.backbone.weights" in said
    assert not list(data.prepared["val"].pieces[0][0].folder.glob("features-*.npy"))


def test_tasks_have_features_and_pictures_have_images(data):
    data.setup("validate")
    images = data.meta_batches("val", 4).meta_batch(0)[0]
    data.compute_features(Network(), CPU)
    features = data.meta_batches("val", 4).meta_batch(0)[0]
    torch.testing.assert_close(features.support_x, torch.stack([Network()(x / 255) for x in images.support_x]))
    assert torch.equal(features.query_y, images.query_y)
    assert torch.equal(data.scaled([features])[0].query_x, features.query_x)
    shown = data.prepared["val"].gather_inputs(features.rows)
    assert torch.equal(shown.support_x, images.support_x)
    assert torch.equal(shown.query_x, images.query_x)


def test_augmented_images_stay_images(toy_data):
    data = toy_data(augment=[v2.RandomHorizontalFlip(0.5)])
    data.compute_features(Network(), CPU)
    assert data.prepared["train"].features is None
    assert data.prepared["val"].features is not None


def test_a_training_part_that_nothing_learns_from_is_not_computed(toy_data):
    data, network = toy_data(), Network()
    data.compute_features(network, CPU, training=False)
    assert data.prepared["train"].features is None
    assert network.seen == sum(len(data.prepared[name].table) for name in ("val", "test"))


@pytest.mark.slow
def test_a_run_on_features_is_a_run_on_images(compose_config, tmp_path, monkeypatch):
    """To the bit; what is trained, and what is calibrated and drawn, too."""
    pytest.importorskip("timm", reason="timm is an extra: make extras")
    network = ("model/backbone=timm", "~model.backbone.filters", "model.backbone.name=test_efficientnet")
    small = ("model.backbone.weights=null", "model.backbone.side=32")
    short = ("seed=0", "trainer.max_steps=2", "data.val_tasks=2", "data.test_tasks=2", "calibration_tasks=2")
    found = []
    for folder in ("features", "images"):
        if folder == "images":
            monkeypatch.setattr("fewshot.runtime.train.use_features", lambda *_: None)
        metrics = train(compose_config(tmp_path / folder, "model=anil", *network, *small, *short))
        run = tmp_path / folder / "run"
        assert (run / "tasks.png").is_file()
        found.append((metrics, (run / "test_predictions.csv").read_text(), json.loads((run / "calibration.json").read_text())))
        assert len([*(tmp_path / folder).glob("cache/toy/*/features-*.npy")]) == (3 if folder == "features" else 0)
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_run_of_a_head_computes_no_training_image(quick_config, tmp_path):
    pytest.importorskip("timm", reason="timm is an extra: make extras")
    network = ("model/backbone=timm", "model.backbone.name=test_efficientnet")
    small = ("model.backbone.weights=null", "model.backbone.side=32", "seed=0", "calibration_tasks=2")
    train(quick_config(tmp_path, "model=ridge", *network, *small))
    assert {path.parent.name for path in tmp_path.glob("cache/*/*/features-*.npy")} == {"val", "test"}
