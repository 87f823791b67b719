"""Tests of Omniglot: its partitions, its rotated classes, and archives that are missing or broken."""

import hashlib
import io
import shutil
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from fewshot.data.files.archives import open_zip
from fewshot.data.images.omniglot import Omniglot
from fewshot.data.preparation import prepare
from fewshot.data.source import SPLITS
from tests.data.fakes import (
    LAKE_BACKGROUND,
    LAKE_EVALUATION,
    characters_of,
    data_module,
    drawing,
    image_bytes,
    omniglot_members,
    refusal,
    silent,
    split_list,
    write_zip,
)
from tests.toy import EvalTasks

ARCHIVES = ("images_background", "images_evaluation")
CHARACTERS = {"train": 1028, "val": 172, "test": 423}
ROTATIONS = ["rot000", "rot090", "rot180", "rot270"]


def lake(folder, **changes):
    return Omniglot(str(folder), partition="lake", **changes)


def copied(folder, target):
    for archive in ARCHIVES:
        shutil.copy(folder / "omniglot" / f"{archive}.zip", target)
    return target


def alphabets(source, split):
    return {c.group for c in source.classes(split)}


def alphabets_met(module, split):
    """The alphabets of each task of a split's list, from the images that it took."""
    prepared = module.prepared[split]
    for (batch,) in module.meta_batches(split, module.tasks[split]):
        for task in batch:
            rows = [*task.rows.support.tolist(), *task.rows.query.tolist()]
            column = prepared.table.columns["alphabet"]
            yield {column.names[value] for value in column.values[rows]}


# Partitions


@pytest.mark.parametrize("rotations", [True, False])
def test_vinyals_has_its_characters_and_training_alone_is_turned(full_omniglot, rotations):
    source = Omniglot(str(full_omniglot), rotations=rotations)
    for split in SPLITS:
        turns = ROTATIONS if rotations and split == "train" else ROTATIONS[:1]
        names = [c.name for c in source.classes(split)]
        assert names == [f"{c}/{turn}" for c in sorted(split_list("omniglot_vinyals")[split]) for turn in turns]
        assert len(names) == CHARACTERS[split] * len(turns)


def test_vinyals_has_every_character_in_one_split():
    count = Counter(character for split in split_list("omniglot_vinyals").values() for character in split)
    assert len(count) == 1623
    assert set(count.values()) == {1}


def test_classes_are_sorted_have_20_drawings_and_belong_to_their_alphabet(small_omniglot):
    for split in SPLITS:
        classes = lake(small_omniglot).classes(split)
        assert [c.name for c in classes] == sorted({c.name for c in classes})
        assert {c.size for c in classes} == {20}
        assert all(c.group == c.name.split("/")[0] for c in classes)


def test_lake_keeps_alphabets_apart(small_omniglot):
    source = lake(small_omniglot)
    assert alphabets(source, "val") == {"BackA", "BackG"}  # every sixth of the background
    assert alphabets(source, "train") == set(LAKE_BACKGROUND) - {"BackA", "BackG"}
    assert alphabets(source, "test") == set(LAKE_EVALUATION)
    assert [len(source.classes(split)) for split in SPLITS] == [6 * 4 * 4, 2 * 4, 13]


def test_options_that_change_classes_are_in_the_name(small_omniglot):
    names = {Omniglot(str(small_omniglot), p, r).name for p in ("vinyals", "lake") for r in (True, False)}
    assert len(names) == 4


def test_an_unknown_partition_is_refused_with_the_nearest(small_omniglot):
    message = refusal(Omniglot, str(small_omniglot), "vinyal")
    assert "data.source.partition=vinyal" in message
    assert "did you mean 'vinyals'?" in message


# Images


def test_drawings_are_white_ink_on_black_shrunk_by_lanczos(small_omniglot):
    for number, images in enumerate(lake(small_omniglot, rotations=False).images("test")):
        assert images.shape == (20, 1, 28, 28)
        assert images.dtype == np.uint8
        for i in range(20):
            paper = Image.fromarray(drawing((number + i) % 77)).convert("L").resize((28, 28), Image.Resampling.LANCZOS)
            np.testing.assert_array_equal(images[i, 0], 255 - np.asarray(paper))
        assert images[:, 0, 27, 27].max() == 0
        assert images[:, 0, 5, 6].min() > 240


def test_rotated_classes_are_the_upright_one_turned(small_omniglot):
    source = lake(small_omniglot)
    images = dict(zip([c.name for c in source.classes("train")], source.images("train"), strict=True))
    for character in characters_of({"BackB": 4}):
        upright = images[f"{character}/rot000"]
        for turn, name in enumerate(ROTATIONS):
            turned = np.stack([np.rot90(image[0], turn)[None] for image in upright])
            np.testing.assert_array_equal(images[f"{character}/{name}"], turned)
        assert (images[f"{character}/rot090"] != upright).any()


def test_without_rotations_the_upright_classes_remain(small_omniglot):
    with_turns, without = (lake(small_omniglot, rotations=r) for r in (True, False))
    assert [c.name for c in without.classes("train")] == [c.name for c in with_turns.classes("train")][::4]
    np.testing.assert_array_equal(list(without.images("train")), list(with_turns.images("train"))[::4])


@pytest.mark.parametrize("folder", ["omniglot", "."])
def test_archives_are_found_in_the_folder_and_in_its_own(small_omniglot, tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    copied(small_omniglot, tmp_path / folder)
    assert [path.parent for path in lake(tmp_path).files("train")] == [tmp_path / folder] * 2


# Tasks within an alphabet


def test_a_task_within_a_group_stays_in_one_alphabet(small_omniglot, tmp_path):
    module = data_module(
        lake(small_omniglot), tmp_path, meta_batch_size=16, test_tasks=300, eval=EvalTasks(5, 1, 3, within="alphabet")
    )
    module.prepare(["test"])
    module.setup("test")
    met = list(alphabets_met(module, "test"))
    assert len(met) == 300
    assert all(len(groups) == 1 for groups in met)
    assert {group for groups in met for group in groups} == {"EvalA", "EvalB"}  # EvalC has fewer characters than ways


def test_without_it_a_task_mixes_alphabets(small_omniglot, tmp_path):
    module = data_module(lake(small_omniglot), tmp_path, meta_batch_size=16, test_tasks=300, eval=EvalTasks(5, 1, 3))
    module.prepare(["test"])
    module.setup("test")
    assert max(len(groups) for groups in alphabets_met(module, "test")) == 3


def test_more_ways_than_the_largest_alphabet_are_refused(small_omniglot, tmp_path):
    module = data_module(
        lake(small_omniglot), tmp_path, meta_batch_size=16, test_tasks=300, eval=EvalTasks(7, 1, 3, within="alphabet")
    )
    message = refusal(module.check, ["test"])
    assert "data.test.ways=7" in message
    assert "EvalA" in message
    assert "choose data.test.ways<=6" in message


# What is missing or broken


@pytest.mark.parametrize("present", [[], ["images_background"], ["images_evaluation"]])
def test_a_missing_archive_is_named(small_omniglot, tmp_path, present):
    for archive in present:
        shutil.copy(small_omniglot / "omniglot" / f"{archive}.zip", tmp_path)
    for call in (lake(tmp_path).files, lake(tmp_path).classes, Omniglot(str(tmp_path)).classes):
        message = refusal(call, "train")
        assert f"paths.data_dir={tmp_path}" in message
        assert all((f"{archive}.zip" in message) == (archive not in present) for archive in ARCHIVES)
        assert "put the files there" in message


def test_a_truncated_archive_is_refused(small_omniglot, tmp_path):
    path = copied(small_omniglot, tmp_path) / "images_evaluation.zip"
    path.write_bytes(path.read_bytes()[:-5000])
    message = refusal(lake(tmp_path).classes, "train")
    assert str(path) in message
    assert "download it again" in message


def test_a_character_with_a_drawing_missing_is_refused(small_omniglot, tmp_path):
    copied(small_omniglot, tmp_path)
    members = omniglot_members("images_evaluation", characters_of(LAKE_EVALUATION))
    members.pop("images_evaluation/EvalA/character03/1002_07.png")
    write_zip(tmp_path / "images_evaluation.zip", members)
    message = refusal(lake(tmp_path).classes, "test")
    assert "images_evaluation.zip has 19 drawings of EvalA/character03 instead of 20" in message
    assert "run again to download" in message
    assert lake(tmp_path).classes("train")
    partial = Omniglot(str(tmp_path), "lake", allow_partial=True)
    assert partial.name == "omniglot-lake-rotations-partial"
    sizes = {c.name: c.size for c in partial.classes("test")}
    assert (sizes["EvalA/character02/rot000"], sizes["EvalA/character03/rot000"]) == (20, 19)
    assert [len(images) for images in partial.images("test")] == list(sizes.values())


def test_a_partial_omniglot_has_the_characters_that_are_there(tmp_path):
    members = omniglot_members("images_background", sorted(split_list("omniglot_vinyals")["val"])[:3])
    for archive in ("images_background", "images_evaluation"):
        write_zip(tmp_path / f"{archive}.zip", members if archive == "images_background" else {})
    source = Omniglot(str(tmp_path), allow_partial=True)
    assert [len(source.classes(split)) for split in ("train", "val", "test")] == [0, 3, 0]


def test_a_character_that_is_missing_is_refused(small_omniglot):
    message = refusal(Omniglot(str(small_omniglot)).classes, "train")
    assert "has 0 drawings of" in message
    assert split_list("omniglot_vinyals")["train"][0] in message


def test_a_drawing_that_cannot_be_decoded_is_named(small_omniglot, tmp_path):
    copied(small_omniglot, tmp_path)
    broken = "images_evaluation/EvalA/character01/1000_03.png"
    members = omniglot_members("images_evaluation", characters_of(LAKE_EVALUATION)) | {broken: b"no image"}
    write_zip(tmp_path / "images_evaluation.zip", members)
    message = refusal(lambda: next(lake(tmp_path).images("test")))
    assert f"{tmp_path / 'images_evaluation.zip'}: {broken} cannot be decoded" in message


def test_files_beside_the_drawings_are_passed_over(small_omniglot, tmp_path):
    copied(small_omniglot, tmp_path)
    with zipfile.ZipFile(tmp_path / "images_evaluation.zip", "a") as archive:
        for name in ("README.md", "images_evaluation/EvalA/character01/Thumbs.db", "__MACOSX/EvalA/character01/1000_01.png"):
            archive.writestr(name, image_bytes(drawing(0)))
    assert lake(tmp_path).classes("test") == lake(small_omniglot).classes("test")


# The real data


@pytest.mark.real_data
def test_the_real_characters_are_those_of_vinyals(data_dir):
    source = Omniglot(str(data_dir))
    listed = {}
    for name in ("train", "trainval", "test"):
        listed[name] = set((data_dir / "omniglot" / "splits_vinyals" / f"{name}.txt").read_text().split())
    expected = {"train": listed["train"], "val": listed["trainval"] - listed["train"], "test": listed["test"]}
    for split in SPLITS:
        ours = {c.name.rpartition("/")[0] for c in source.classes(split)}
        assert {f"{character}/{turn}" for character in ours for turn in ROTATIONS} == expected[split]
        assert len(ours) == CHARACTERS[split]
    assert {c.name for c in source.classes("train")} == listed["train"]


@pytest.mark.real_data
def test_the_real_alphabets_are_those_of_lake(data_dir):
    source = lake(data_dir, rotations=False)
    background = alphabets(source, "train") | alphabets(source, "val")
    assert len(background) == 30
    assert len(alphabets(source, "test")) == 20
    assert not alphabets(source, "train") & alphabets(source, "val")
    assert not background & alphabets(source, "test")
    assert len(source.classes("train")) + len(source.classes("val")) == 964
    assert len(source.classes("test")) == 659


@pytest.mark.real_data
@pytest.mark.slow
def test_the_real_images_are_whole_and_upright_where_they_should_be(real_omniglot):
    _, _, prepared = real_omniglot
    assert [len(prepared[split].x.numpy()) for split in SPLITS] == [1028 * 4 * 20, 172 * 20, 423 * 20]
    for split in SPLITS:
        images = prepared[split].x.numpy()
        assert images[:, 0, [0, -1]].mean() < 8 < images.mean() < 64
    blocks = prepared["train"].x.numpy().reshape(1028, 4, 20, 28, 28)
    for turn in range(4):
        np.testing.assert_array_equal(blocks[:, turn], np.rot90(blocks[:, 0], turn, axes=(2, 3)))


@pytest.mark.real_data
@pytest.mark.slow
def test_a_real_drawing_is_that_of_its_class_and_artist(real_omniglot, data_dir):
    _, _, prepared = real_omniglot
    split = prepared["test"]
    for number in (0, 100, 422):
        alphabet, character, _ = split.classes[number].name.split("/")
        for path in (data_dir / "omniglot" / f"{archive}.zip" for archive in ARCHIVES):
            prefix = f"{path.stem}/{alphabet}/{character}/"
            found = sorted(name for name in open_zip(path).namelist() if name.startswith(prefix) and name.endswith(".png"))
            for row, name in enumerate(found):
                picture = (
                    Image.open(io.BytesIO(open_zip(path).read(name))).convert("L").resize((28, 28), Image.Resampling.LANCZOS)
                )
                np.testing.assert_array_equal(
                    split.x.numpy()[split.table.columns["class"].starts[number] + row, 0], 255 - np.asarray(picture)
                )
                assert name.endswith(f"_{row + 1:02d}.png")


@pytest.mark.real_data
@pytest.mark.slow
def test_real_test_tasks_within_a_group_stay_in_one_alphabet(real_omniglot):
    source, cache, prepared = real_omniglot
    members = Counter(c.group for c in prepared["test"].classes)
    module = data_module(source, cache, meta_batch_size=16, test_tasks=300, eval=EvalTasks(5, 1, 15, within="alphabet"))
    module.prepare(["test"])
    module.setup("test")
    met = list(alphabets_met(module, "test"))
    assert all(len(groups) == 1 for groups in met)
    assert {group for groups in met for group in groups} == {name for name, count in members.items() if count >= 5}


@pytest.mark.real_data
@pytest.mark.slow
def test_the_real_preparation_is_the_same_again(real_omniglot, tmp_path):
    source, _, prepared = real_omniglot
    again = prepare(source, "val", tmp_path, silent)
    assert again.images_sha256 == prepared["val"].images_sha256
    assert again.images_sha256 == hashlib.sha256(prepared["val"].x.numpy().tobytes()).hexdigest()
