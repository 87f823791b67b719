"""Files that nobody vouches for, broken at random: every reader returns what is right or refuses in one line.

Ten thousand of each reader, in an hour: ``FEWSHOT_FUZZ=10000 .venv/bin/pytest -n auto tests/test_fuzz.py``. What bit is kept as
an explicit example in the reader's own tests.
"""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from fewshot.data.files.archives import open_zip, read_member
from fewshot.data.files.pickles import load_pickle
from fewshot.data.images import quickdraw
from fewshot.data.images.cifar100 import FC100, CifarFS
from fewshot.data.images.cub import CUB
from fewshot.data.images.decode import FORMATS, decode
from fewshot.data.images.folder import Folder
from fewshot.data.images.miniimagenet import MiniImageNet
from fewshot.data.images.omniglot import Omniglot
from fewshot.data.images.tieredimagenet import TieredImageNet
from fewshot.data.preparation import prepare
from fewshot.data.prepared import find
from fewshot.data.published import listed, published_classes
from fewshot.predict.learner import FewShotLearner
from fewshot.predict.run_files import read_run
from fewshot.runtime.build import build_model
from fewshot.runtime.checkpoints import read_checkpoint
from fewshot.runtime.eval_config import offer_saved_config, training_tasks
from fewshot.runtime.metrics_csv import MetricsCsv
from fewshot.runtime.resume import restore_model
from fewshot.runtime.run_folder import find_checkpoint, results_of
from fewshot.runtime.train import train
from tests.data.fakes import image_bytes, omniglot_members, photo, photo_names, silent, write_csv, write_tar, write_zip
from tests.fuzz import BROKEN_FILES, fuzz, read_part
from tests.toy import Toy


@pytest.fixture(scope="module")
def run(tmp_path_factory, compose_config):
    """A finished tiny run: its config and folder."""
    folder = tmp_path_factory.mktemp("run")
    cfg = compose_config(folder, "trainer.max_steps=2", "data.val_tasks=2", "data.test_tasks=2", "seed=0")
    torch.use_deterministic_algorithms(False)
    train(cfg)
    return cfg, folder / "run"


pytestmark = [pytest.mark.timeout(120 + BROKEN_FILES), pytest.mark.proof]


def test_pickles(tmp_path):
    content = {"image_data": np.stack([photo(i) for i in range(2)]), "class_dict": {"n01": [np.int64(0)], "n02": range(1, 2)}}
    # The pixels, which are most of the file, would take most of the edits.
    data = pickle.dumps(content | {"image_data": content["image_data"][:, :2, :2]}, protocol=4)
    path = tmp_path / "cache.pkl"
    fuzz(path, data, lambda: load_pickle(path))


def test_pickles_of_miniimagenet(tmp_path):
    content = {"image_data": np.zeros((0, 84, 84, 3), np.uint8), "class_dict": {"n01": [0], "n02": range(1, 2)}}
    path = tmp_path / "mini-imagenet-cache-train.pkl"
    fuzz(path, pickle.dumps(content, protocol=4), lambda: MiniImageNet(str(tmp_path)).classes("train"))


def test_lists_of_miniimagenet(tmp_path):
    names = photo_names("val", images=2)
    write_zip(tmp_path / "images.zip", {f"images/{name}": b"" for name, _ in names})
    path = tmp_path / "val.csv"
    write_csv(path, names)
    write_csv(tmp_path / "train.csv", names)

    def read():
        source = MiniImageNet(str(tmp_path))
        source.files("val")
        source.classes("val")

    fuzz(path, path.read_bytes(), read)


def test_lists_of_a_user(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(image_bytes(photo(i)[:4, :4]))
    path = tmp_path / "list.csv"

    def read():
        source = Folder(str(tmp_path), csv="list.csv", allow_partial=True)
        for part in source.parts:
            source.classes(part)
            source.columns(part)

    lines = ["\ufefffile, class, split, Patient ID", "0.png, a, train, 7", "./1.png, b, val, 7", "3, c, test, 9"]
    fuzz(path, "\r\n".join(lines).encode(), read)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives(tmp_path, compression):
    path = write_zip(tmp_path / "a.zip", {f"images/{i}.png": image_bytes(photo(i)[:4, :4]) for i in range(3)}, compression)

    def read():
        for name in open_zip(path).namelist():
            decode(read_member(path, name), "RGB", (84, 84), name)

    fuzz(path, path.read_bytes(), read)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", FORMATS)
def test_images(tmp_path, kind, mode):
    path = tmp_path / "image"
    fuzz(path, image_bytes(photo(0)[:16, :16], kind), lambda: decode(path.read_bytes(), mode, (8, 8), str(path)))


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32), ("TIFF", np.float32)])
def test_deep_images(tmp_path, kind, dtype):
    path, grey = tmp_path / "image", photo(0)[:16, :16, 0] / 255
    valid = image_bytes(grey.astype(dtype) if dtype is np.float32 else (grey * np.iinfo(dtype).max).astype(dtype), kind)
    fuzz(path, valid, lambda: decode(path.read_bytes(), "L", (8, 8), str(path)))


def test_quickdraw(tmp_path, monkeypatch):
    monkeypatch.setattr(quickdraw, "CATEGORIES", 6)
    monkeypatch.setattr(quickdraw, "DRAWINGS", 2)
    monkeypatch.setattr(quickdraw, "SHARES", {"val": range(6)})
    path = tmp_path / quickdraw.FILE
    np.savez(path, images=np.zeros((6, 2, 28, 28), np.uint8), class_names=np.array(list("abcdef")))

    def read():
        source = quickdraw.QuickDraw(str(tmp_path))
        source.classes("val")
        list(source.images("val"))

    fuzz(path, path.read_bytes(), read)


def test_omniglot(tmp_path):
    for archive in ("images_background", "images_evaluation"):
        write_zip(tmp_path / f"{archive}.zip", omniglot_members(archive, ["Alpha/character01", "Beta/character01"]))
    path = tmp_path / "images_evaluation.zip"

    def read():
        source = Omniglot(str(tmp_path), partition="lake")
        source.classes("test")
        for _ in source.images("test"):
            pass

    fuzz(path, path.read_bytes(), read)


CIFAR = [listed("lists", "cifar100_names").index(name) for name in published_classes("fc100", "tadam")["val"][:2]]
"""The numbers of two of CIFAR-100's classes."""


def tiered_labels():
    names = [listed("lists", "imagenet_names")[wnid] for wnid in published_classes("tieredimagenet", "ren")["val"][:2]]
    return {"label_specific": np.array([0, 1, 1], np.int32), b"label_specific_str": names, "label_general": [0, 0, 0]}


@pytest.mark.parametrize("name", ["val_images_png.pkl", "val_labels.pkl"])
def test_pickles_of_tieredimagenet(tmp_path, name):
    pngs = [np.frombuffer(image_bytes(photo(i)[:4, :4]), np.uint8)[:, None] for i in range(3)]
    (tmp_path / "val_images_png.pkl").write_bytes(pickle.dumps(pngs, protocol=2))
    (tmp_path / "val_labels.pkl").write_bytes(pickle.dumps(tiered_labels(), protocol=2))
    path = tmp_path / name
    fuzz(path, path.read_bytes(), lambda: read_part(TieredImageNet(str(tmp_path), (3, 4, 4), allow_partial=True), "val"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_tieredimagenet(tmp_path, save):
    path = tmp_path / "val_images.npz"
    save(path, images=np.stack([photo(i)[:4, :4] for i in range(3)]))
    (tmp_path / "val_labels.pkl").write_bytes(pickle.dumps({"labels": [np.int64(3), 4, 4]}))
    fuzz(path, path.read_bytes(), lambda: read_part(TieredImageNet(str(tmp_path), (3, 4, 4), allow_partial=True), "val"))


def cifar_files(rows):
    """CIFAR-100's own files with few images, in both forms."""
    names, labels = listed("lists", "cifar100_names"), CIFAR + CIFAR[:1]
    python = {"data": rows, "fine_labels": labels}
    binary = b"".join(bytes([0, label]) + row.tobytes() for label, row in zip(labels, rows, strict=True))
    return {
        "cifar-100-python/meta": pickle.dumps({b"fine_label_names": names}, protocol=2),
        "cifar-100-python/train": pickle.dumps(python, protocol=2),
        "cifar-100-python/test": pickle.dumps({key.encode(): value for key, value in python.items()}, protocol=2),
        "cifar-100-binary/fine_label_names.txt": "\n".join(names).encode(),
        "cifar-100-binary/train.bin": binary,
        "cifar-100-binary/test.bin": binary,
    }


@pytest.mark.parametrize(
    ("form", "name"),
    [
        *(("python", name) for name in ("meta", "train", "test")),
        *(("binary", name) for name in ("fine_label_names.txt", "test.bin")),
        ("python", "archive"),
    ],
)
def test_files_of_cifar_100(tmp_path, form, name):
    rows = np.stack([photo(i)[:32, :32].reshape(-1) for i in range(3)])
    files = {key: data for key, data in cifar_files(rows).items() if form in key}
    if name == "archive":
        path = write_tar(tmp_path / f"cifar-100-{form}.tar.gz", files)
    else:
        for key, data in files.items():
            (tmp_path / key).parent.mkdir(exist_ok=True)
            (tmp_path / key).write_bytes(data)
        path = tmp_path / f"cifar-100-{form}/{name}"
    fuzz(path, path.read_bytes(), lambda: read_part(FC100(str(tmp_path), (3, 32, 32), allow_partial=True), "val"))


@pytest.mark.parametrize("name", ["FC100_val.pickle", "few-shot-val.npz", "CIFAR_FS_val.pickle"])
def test_parts_of_cifar_100(tmp_path, name):
    path, images, labels = tmp_path / name, np.stack([photo(i)[:4, :4] for i in range(3)]), CIFAR + CIFAR[:1]
    if path.suffix == ".npz":
        np.savez(path, features=images, targets=np.array(labels))
    else:
        path.write_bytes(pickle.dumps({"data": images, "labels": [np.int64(label) for label in labels]}, protocol=2))
    source = CifarFS if "FS" in name else FC100
    fuzz(path, path.read_bytes(), lambda: read_part(source(str(tmp_path), (3, 4, 4), allow_partial=True), "val"))


@pytest.mark.parametrize("name", ["CUB_200_2011.tar", "CUB_200_2011.tgz", "images.txt", "bounding_boxes.txt"])
def test_cub(tmp_path, name):
    birds = [f"001.Black_footed_Albatross/Black_Footed_Albatross_000{i}_7.jpg" for i in range(3)]
    files = {f"CUB_200_2011/images/{bird}": image_bytes(photo(i)[:8, :8]) for i, bird in enumerate(birds)}
    files["CUB_200_2011/images.txt"] = "".join(f"{i} {bird}\n" for i, bird in enumerate(birds)).encode()
    files["CUB_200_2011/bounding_boxes.txt"] = b"".join(b"%d 1.0 2.0 4.0 5.0\n" % i for i in range(3))
    if name.endswith(".txt"):
        for key, data in files.items():
            (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / key).write_bytes(data)
        path = tmp_path / "CUB_200_2011" / name
    else:
        path = write_tar(tmp_path / name, files)
    fuzz(path, path.read_bytes(), lambda: read_part(CUB(str(tmp_path), (3, 8, 8), crop=True, allow_partial=True), "train"))


@pytest.mark.parametrize("name", ["meta.json", "images.npy"])
def test_prepared_files(tmp_path, name):
    """What is broken is found out and made anew, never used."""
    source = Toy()
    whole = prepare(source, "val", tmp_path, silent)
    images = np.array(whole.x.numpy())
    path = whole.folder / name

    def read():
        found = find(source, "val", tmp_path)
        if found is not None:
            assert found == whole
            np.testing.assert_array_equal(found.x.numpy(), images)

    fuzz(path, path.read_bytes(), read)


def test_checkpoints(run, tmp_path):
    path = tmp_path / "last.ckpt"
    fuzz(path, (run[1] / "checkpoints" / "last.ckpt").read_bytes(), lambda: read_checkpoint(path))


def test_checkpoints_whole_on_the_outside(run, tmp_path):
    """The pickle inside is broken, the archive around it is not."""
    cfg, folder = run
    model = build_model(cfg)
    with zipfile.ZipFile(folder / "checkpoints" / "last.ckpt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    inside = next(name for name in members if name.endswith("data.pkl"))
    path, packed = tmp_path / "data.pkl", tmp_path / "packed.ckpt"

    def read():
        packed.unlink(missing_ok=True)
        write_zip(packed, members | {inside: path.read_bytes()})
        restore_model(read_checkpoint(packed), model)

    fuzz(path, members[inside], read)


@pytest.mark.parametrize("name", ["config.yaml", "composed.yaml"])
def test_configs_of_runs(run, tmp_path, name):
    cfg, folder = run
    for file in ("config.yaml", "composed.yaml", "results.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())

    def read():
        offer_saved_config([f"run={tmp_path}"])
        training_tasks(tmp_path)
        fresh = OmegaConf.create(OmegaConf.to_container(cfg))
        fresh.seed = None
        results_of(fresh, tmp_path)
        find_checkpoint(fresh, tmp_path)

    fuzz(tmp_path / name, (folder / name).read_bytes(), read)


def test_results(run, tmp_path):
    cfg, folder = run
    for file in ("config.yaml", "composed.yaml"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    path = tmp_path / "results.json"

    def read():
        results = results_of(cfg, tmp_path)
        assert results is None or json.dumps(results)

    fuzz(path, (folder / "results.json").read_bytes(), read)


def test_metrics(run, tmp_path):
    path = tmp_path / "metrics.csv"
    fuzz(path, (run[1] / "metrics.csv").read_bytes(), lambda: MetricsCsv(str(path), first_step=1))


@pytest.mark.parametrize("name", ["learner.json", "learner.safetensors"])
def test_saved_learners(run, tmp_path, name):
    learner = FewShotLearner.from_run(run[1], trust=["tests"])
    x = np.zeros((4, *run[0].data.image_shape), np.float32)
    learner.fit(x, ["a", "b", "a", "b"]).save(tmp_path)
    path = tmp_path / name
    fuzz(path, path.read_bytes(), lambda: read_run(tmp_path))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_timm(tmp_path, monkeypatch, suffix):
    timm = pytest.importorskip("timm", reason="timm is an extra: make extras")
    from safetensors.torch import save_file

    from fewshot.backbones.timm import Timm

    network = timm.create_model("test_vit", img_size=32, num_classes=0)
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(network.state_dict(), path)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: network)  # not built ten thousand times
    fuzz(path, path.read_bytes(), lambda: Timm("test_vit", str(path), side=32, image_shape=(3, 32, 32)))
