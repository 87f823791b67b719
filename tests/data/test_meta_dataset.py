"""Meta-Dataset: its datasets as one source, whose tasks stay within one of them, and what is left out."""

import json
import logging
from collections import Counter

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from fewshot.data.images.meta_dataset import MetaDataset
from fewshot.data.images.mscoco import MSCOCO
from fewshot.data.preparation import prepare
from fewshot.data.published import listed, published_classes
from fewshot.data.source import SPLITS, table_of
from fewshot.runtime.config_groups import CONFIGS
from fewshot.tasks.class_sampler import ClassSampler
from fewshot.tasks.streams import stream_key
from tests.data.fakes import characters_of, omniglot_members, refusal, silent, write_zip
from tests.data.test_photographs import SHAPE, plane, write_files
from tests.data.test_published_images import grey
from tests.data.test_quickdraw import REAL

NODES = sorted((below for node, below in listed("lists", "imagenet_nodes").items() if node.startswith("train.")), key=len)[:2]
BACKGROUND = {"Greek": 6, "Latin": 7, "Tagalog": 6}


def write_data_sets(root):
    """Omniglot, all textures, a few sketches and things, and eleven classes of ImageNet."""
    for archive, alphabets in (("images_background", BACKGROUND), ("images_evaluation", {"Angelic": 6})):
        write_zip(root / f"omniglot/{archive}.zip", omniglot_members(archive, characters_of(alphabets)))
    textures = [name for part in published_classes("dtd", "metadataset").values() for name in part]
    write_files(root, {f"dtd/images/{name}/{i}.jpg": grey(9) for name in textures for i in range(4)})
    sketches = root / "quickdraw"
    sketches.mkdir()
    for i, name in enumerate(REAL[:60]):
        np.save(sketches / f"{name}.npy", np.full((4, 784), i, dtype=np.uint8))
    for names in NODES:
        write_files(root, {f"imagenet/train/{wnid}/{wnid}_{i}.JPEG": grey(20) for wnid in names for i in range(4)})
    write_coco(root)


def write_coco(root, changes=()):
    rows = [(1, 18, [2, 3, 6, 4]), (1, 1, [-9, 0, 1, 1]), (2, 1, [2, 3, 6, 4])]
    content = {
        "categories": [{"id": 1, "name": published_classes("mscoco", "metadataset")["test"][0]}, {"id": 18, "name": "dog"}],
        "annotations": [{"image_id": i, "category_id": category, "bbox": box} for i, category, box in rows],
    } | dict(changes)
    names = {f"mscoco/train2017/{i:012d}.jpg": plane(40 * i) for i in (1, 2)}
    write_files(root, {"mscoco/annotations/instances_train2017.json": json.dumps(content).encode(), **names})


def source_of(root, *overrides):
    """As the config of the dataset makes it."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", ["data=meta_dataset", f"paths.data_dir={root}", "data.image_shape=[3,16,16]", *overrides])
    return instantiate(cfg.data.source, _convert_="all")


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("meta")
    write_data_sets(root)
    return source_of(root, "data.allow_partial=true")


def test_those_that_are_there_take_part_and_the_others_are_named(data_sets, caplog):
    again = MetaDataset(str(data_sets._root), data_sets.image_shape, data_sets._asked, allow_partial=True)
    with caplog.at_level(logging.INFO):
        assert again.name == "meta_dataset-dtd-imagenet-mscoco-omniglot-quickdraw-partial"
    assert "Meta-Dataset without fungi: no folder fungi/" in caplog.text
    for part in SPLITS:
        names = [c.name for c in data_sets.classes(part)]
        assert names == sorted(names)
        there = {name.partition("/")[0] for name in names}
        assert there == {"dtd", "omniglot", "quickdraw"} | ({"imagenet"} if part == "train" else {"mscoco"})
    alphabets = {part: {c.group for c in data_sets.classes(part) if c.name.startswith("omniglot")} for part in SPLITS}
    assert alphabets == {"train": {"Greek", "Latin"}, "val": {"Tagalog"}, "test": {"Angelic"}}


def test_one_made_alike_is_the_same_and_another_is_not(data_sets):
    """So that three parts share one, and prepared files are found again."""
    again, other = (
        source_of(data_sets._root, "data.allow_partial=true", *more) for more in ((), ("~data.source.sources.fungi",))
    )
    assert again.is_like(data_sets)
    assert again.options == data_sets.options
    assert not other.is_like(data_sets)
    assert other.options != data_sets.options
    assert "0x" not in str(again.options), "no address in memory"


def test_images_of_all_are_of_one_shape_and_in_the_order_of_their_classes(data_sets, tmp_path):
    prepared = prepare(data_sets, "train", tmp_path, silent)
    assert prepared.x.shape == (len(prepared.table), 3, 16, 16)
    classes, names = prepared.table.columns["class"], prepared.table.columns["dataset"]
    assert all(classes.names[c].startswith(f"{names.names[n]}/") for c, n in zip(classes.values, names.values, strict=True))
    sketch = next(c for c in prepared.classes if c.name.startswith("quickdraw/"))
    rows = np.flatnonzero(classes.values == classes.names.index(sketch.name))
    assert (prepared.x[rows] == REAL.index(sketch.name.partition("/")[2]) % 256).all()


def test_tasks_stay_within_a_data_set_an_alphabet_or_a_node(data_sets):
    rows = table_of(data_sets, data_sets.classes("train"), data_sets.columns("train"))
    sampler = ClassSampler((5, 50), "meta_dataset", 10, within=("dataset", "group"))
    sampler.check(rows, "data.train", "train")
    names, where, ways = rows.classes, Counter(), {}
    for (task,) in sampler.draw(rows, stream_key("meta"), range(300)):
        members = [names[c] for c in task.class_id.tolist()]
        (data_set,) = {name.partition("/")[0] for name in members}
        where[data_set] += 1
        ways.setdefault(data_set, set()).add(len(members))
        if data_set == "omniglot":
            assert len({name.split("/")[1] for name in members}) == 1, "one alphabet"
        if data_set == "imagenet":
            wnids = {name.partition("/")[2] for name in members}
            assert any(wnids <= set(below) for below in listed("lists", "imagenet_nodes").values())
    assert set(where) == {"dtd", "imagenet", "omniglot", "quickdraw"}
    assert min(where.values()) > 45
    assert ways["imagenet"] <= {len(rows_of_node) for rows_of_node in nodes_there(names)}, "all classes of a node"
    assert ways["omniglot"] == {5, 6, 7}


def nodes_there(names):
    there = {name.partition("/")[2] for name in names if name.startswith("imagenet/")}
    return [set(below) & there for below in listed("lists", "imagenet_nodes").values()]


def test_nothing_there_is_refused_with_what_is_looked_for(tmp_path):
    said = refusal(source_of(tmp_path).classes, "train")
    assert f"paths.data_dir={tmp_path} holds no train classes of Meta-Dataset; put some there: aircraft (no folder" in said


def test_a_data_set_that_is_not_whole_is_left_out_unless_it_is_asked_for(data_sets):
    whole = source_of(data_sets._root)
    assert "mscoco" not in whole.name
    assert "dtd" not in whole.name


def test_the_nodes_and_parts_of_imagenet():
    """712, 158 and 130 classes, each below some node of its own part that has 5 to 392 of them."""
    nodes, parts = listed("lists", "imagenet_nodes"), published_classes("imagenet", "metadataset")
    assert [len(parts[part]) for part in SPLITS] == [712, 158, 130]
    for part in SPLITS:
        below = {node: classes for node, classes in nodes.items() if node.startswith(f"{part}.")}
        assert {wnid for classes in below.values() for wnid in classes} == set(parts[part])
        assert all(5 <= len(classes) <= 392 for classes in below.values())


def test_things_are_cut_out_with_a_tenth_of_their_box_around_them(tmp_path):
    write_coco(tmp_path)
    source = MSCOCO(str(tmp_path), (1, 6, 8), allow_partial=True)
    found = {name: images for part in source.parts for name, images in whole(source, part).items()}
    assert sorted(map(len, found.values())) == [1, 1], "one thing lies outside of its image"
    assert (found["dog"][0, 0, 1:5, 1:7] == 40).all()
    assert found["dog"][0, 0, 0, 0] == 1, "a rim of the sky"
    assert source.parts == ("val", "test")


def whole(source, part):
    return {c.name: images for c, images in zip(source.classes(part), source.images(part), strict=True)}


@pytest.mark.parametrize(
    "changes", [{"categories": 3}, {"annotations": [{"bbox": [1]}]}, {"annotations": [{"bbox": [1e400] * 4}]}]
)
def test_things_listed_otherwise_are_refused(tmp_path, changes):
    write_coco(tmp_path, changes)
    said = refusal(MSCOCO(str(tmp_path), SHAPE, allow_partial=True).classes, "val")
    assert "instances_train2017.json lists no annotations and categories" in said
