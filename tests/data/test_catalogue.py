"""What is known of datasets beside their content, and the command that says it."""

import json
import re
import subprocess
import sys
from pathlib import PurePath
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml
from PIL import Image

from fewshot.data import catalogue as module
from fewshot.data.catalogue import Facts, PublishedFile, catalogue
from fewshot.data.files.download import _digest
from fewshot.runtime.config_groups import CONFIGS
from tests.data.fakes import image_bytes, write_zip
from tests.data.test_download import no_server, server  # noqa: F401
from tests.data.test_published_images import CELLS, TWELVE, write_cells
from tests.entry import ROOT, main


def test_every_published_data_set_has_its_facts():
    """A variant of another source (the cells of no shape) is no dataset of its own, and a user's folder is not published."""
    contents = {path.stem: yaml.safe_load(path.read_text()) for path in (CONFIGS / "data/source").glob("*.yaml")}
    assert {name for name, content in contents.items() if "data_dir" in content} - {"folder"} <= set(catalogue())


@pytest.mark.parametrize("known", catalogue().values(), ids=catalogue())
def test_facts_are_whole(known):
    assert known.title
    assert known.licence
    assert known.page.startswith(("http://", "https://", "embedded"))
    for file in known.files:
        assert PurePath(file.name).name == file.name
        for url in map(urlsplit, file.urls):
            assert url.scheme in ("http", "https")
            assert "." in url.netloc
            assert url.path.rpartition("/")[2] == file.name
            assert not url.query + url.fragment
        assert len(file.md5 or "0" * 32) == 32
        assert len(file.sha256 or "0" * 64) == 64
        assert not (file.name.endswith("ubyte.gz") and (file.md5 or file.sha256)), "compressed anew by who hands them on"


def command(*arguments):
    return main("src/fewshot/data/__main__.py", *arguments)


def unfilled(text):
    """What was printed, each entry on one line."""
    return re.sub(r"\n {5,}", " ", text)


def test_the_list_names_every_data_set_before_pytorch_is_there():
    code = "import runpy, sys; sys.argv = ['data', 'list']\n"
    code += "try: runpy.run_module('fewshot.data', run_name='__main__')\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for name, known in catalogue().items():
        assert f"{name:<15} {known.title} " in unfilled(done.stdout)
    assert "1,623 classes, 32,460 images, MIT" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def write_eurosat(folder, classes):
    pixels = np.full((8, 8, 3), 90, dtype=np.uint8)
    return write_zip(folder / "EuroSAT.zip", {f"2750/{c}/{c}_{i}.jpg": image_bytes(pixels) for c in classes for i in range(3)})


LAND = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop", "Residential")
LAND += ("River", "SeaLake")


def test_a_data_set_is_told_with_what_is_found_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_eurosat(tmp_path / "eurosat", LAND)
    done = command("check", "eurosat", f"paths.data_dir={tmp_path}", "data.image_shape=[3,8,8]", "--sheet")
    assert done.code == 1, done.err
    assert "\n             md5 c8fa014336c82ac7804f0398fcb19387\n             https://huggingface.co/" in done.out
    assert all(len(line) <= 80 or " " not in line[13:] for line in done.out.splitlines()), "a word is not broken"
    for line in (
        "eurosat: EuroSAT (Helber et al. 2019), land seen by Sentinel-2",
        "  licence    MIT",
        "  published  10 classes, 27,000 images, 90 MiB, https://github.com/phelber/EuroSAT",
        "  get        python -m fewshot.data prepare eurosat",
        f"  looked in  {tmp_path}/eurosat",
        "  found      all: 10 classes, 30 rows",
        f"  whole      no: {tmp_path}/eurosat holds 10 classes and 30 images of eurosat instead of 10 and 27,000; put all of "
        "them there, or accept what there is with data.allow_partial=true; python -m fewshot.data prepare eurosat downloads it",
        "  sheet      eurosat.png",
    ):
        assert f"{line}\n" in unfilled(done.out)
    with Image.open(tmp_path / "eurosat.png") as sheet:
        assert sheet.size[0] > 600
        assert (90, 90, 90) in {colour for _, colour in sheet.convert("RGB").getcolors(maxcolors=10_000)}


def test_of_a_part_of_a_data_set_is_told_what_is_missing(tmp_path):
    write_eurosat(tmp_path / "eurosat", LAND[:4])
    done = command("check", "eurosat", f"paths.data_dir={tmp_path}")
    assert "  found      all: 4 classes, 12 rows\n" in done.out
    assert f"  whole      no: paths.data_dir={tmp_path} lacks class Industrial of eurosat; " in unfilled(done.out)
    assert done.code == 1


@pytest.mark.slow
def test_all_data_sets_are_told_of_where_none_is_there(tmp_path):
    """Those of text too, whose parts their files say; the embedded one is whole."""
    done = command(
        "check", "banking77", "clinc150", "fewrel", "glyphs", "gtsrb", "movielens", f"paths.data_dir={tmp_path / 'no'}"
    )
    assert done.code == 1
    out = unfilled(done.out)
    assert out.count("  whole      no: ") == 5
    assert f"  whole      no: {tmp_path / 'no/banking77/train.csv'} is missing; put it there or set paths.data_dir" in out
    assert f"  looked in  {tmp_path / 'no'}, as there is nothing in gtsrb/ or GTSRB/\n" in out
    assert f"{tmp_path / 'no'} is missing; put there GTSRB_Final_Training_Images.zip, or its folders 0" in out
    assert out.count("  whole      yes\n") == 1


def test_several_data_sets_of_which_one_is_not_there(tmp_path):
    write_cells(tmp_path, TWELVE)
    done = command("check", "chestx", "chula_rbc12", f"paths.data_dir={tmp_path}")
    assert f"  whole      no: paths.data_dir={tmp_path} lacks Data_Entry_2017.csv; " in unfilled(done.out)
    assert "  found      all: 12 classes, 12 rows\n  whole      not known: no number of rows" in done.out
    assert done.code == 1
    assert command("check", "chula_rbc12", f"paths.data_dir={tmp_path}").code == 0
    write_cells(tmp_path, CELLS)
    done = command("check", "chula_rbc12", f"paths.data_dir={tmp_path}")
    assert "  whole      no: 2 of 12 classes\n" in done.out
    assert done.code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "eurosta"), "error: eurosta is no dataset; did you mean 'eurosat'?"),
        (("check", "eurosat", "data.shot=1"), "error: data.shot is no key of this config"),
        (("prepare", "eurosat", "data.image_shape=[2,8,8]"), "error: data.image_shape=[2, 8, 8] must have 1 channel"),
        (
            ("check", "data=cub"),
            "error: data=cub is of train.py; name the dataset without a key, as in: python -m fewshot.data ",
        ),
        (("prepare", "data/source=new"), "error: data/source=new is of train.py; name the dataset without a key, as in: "),
        (("check", "dtd", "data/source@data.train.source=cub"), "error: data/source@data.train.source=cub is of train.py"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, arguments, said):
    done = command(*arguments, f"paths.data_dir={tmp_path}")
    assert done.code == 2
    assert done.err.startswith(said)
    assert done.err.count("\n") == 1


def test_preparing_downloads_what_is_missing(server, tmp_path, monkeypatch):  # noqa: F811
    """Once; the second time, everything is there."""
    body = write_eurosat(tmp_path / "upstream", LAND)
    monkeypatch.setattr("tests.data.test_download.BODY", body.read_bytes())
    file = PublishedFile("EuroSAT.zip", (f"{server}/missing", f"{server}/resumable"), body.stat().st_size, _digest(body, "md5"))
    known = Facts("eurosat", "title", "licence", "https://page", files=(file,))
    monkeypatch.setattr(module, "catalogue", lambda: {"eurosat": known})
    folders = (f"paths.data_dir={tmp_path / 'data'}", f"paths.cache_dir={tmp_path / 'cache'}", "data.image_shape=[3,8,8]")
    done = command("prepare", "eurosat", *folders)
    assert done.code == 0, done.err
    assert f"eurosat all: 30 rows in {tmp_path / 'cache/eurosat/all'}\n" in done.out
    assert np.load(tmp_path / "cache/eurosat/all/images.npy").shape == (30, 3, 8, 8)
    monkeypatch.setattr("fewshot.data.files.download.download", None)
    assert command("prepare", "eurosat", *folders).code == 0


def test_preparing_beside_a_part_of_a_data_set_tells_of_it_and_of_both_remedies(no_server, tmp_path, monkeypatch):  # noqa: F811
    write_eurosat(tmp_path / "eurosat", LAND)
    file = PublishedFile("EuroSAT-whole.zip", (f"{no_server}/x",), 3 * 2**20)
    known = Facts("eurosat", "title", "licence", "https://page", classes=10, images=27_000, files=(file,))
    monkeypatch.setattr(module, "catalogue", lambda: {"eurosat": known})
    folders = (f"paths.data_dir={tmp_path}", f"paths.cache_dir={tmp_path / 'cache'}", "data.image_shape=[3,8,8]")
    done = command("prepare", "eurosat", *folders)
    assert done.code == 2
    out = unfilled(done.out)
    assert "eurosat: there in part (all: 10 classes, 30 rows), which a run would refuse: " in out
    assert "data.allow_partial=true\n" in out, "nothing of the command that is running"
    assert f"eurosat: downloading EuroSAT-whole.zip (3 MiB) into {tmp_path / 'eurosat'}\n" in out
    remedies = (
        f"see https://page, and put it into {tmp_path / 'eurosat'}, or accept what is there with data.allow_partial=true\n"
    )
    assert done.err.endswith(remedies)
    monkeypatch.chdir(tmp_path)
    done = command("prepare", "eurosat", *folders, "data.allow_partial=true", "--sheet")
    assert "eurosat all: 30 rows in " in done.out
    assert done.out.endswith("  sheet      eurosat.png\n")
    assert (tmp_path / "eurosat.png").is_file()


@pytest.mark.parametrize("command_name", ["check", "prepare"])
def test_a_sheet_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, monkeypatch, command_name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chestx.png").mkdir()
    done = command(command_name, "eurosat", "chestx", f"paths.data_dir={tmp_path}", "--sheet")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: chestx.png cannot be written here (Is a directory); run it in another folder\n"


def test_text_has_no_sheet(tmp_path):
    (tmp_path / "banking77").mkdir()
    for name in ("train.csv", "test.csv"):
        (tmp_path / "banking77" / name).write_text("text,category\nwhere is my card,card_arrival\n")
    done = command("check", "banking77", f"paths.data_dir={tmp_path}", "--sheet")
    assert "  whole      no: 1 of 13,072 rows\n  sheet      none, as banking77 has no images\n" in done.out


def test_what_is_left_out_on_request_is_not_missing(tmp_path, monkeypatch):
    intents = {f"intent {number}": ["a", "b"] for number in range(3)}
    sentences = {"train": [], "val": [], "test": [[text, name] for name, of in intents.items() for text in of]}
    sentences |= {f"oos_{part}": [["c", "oos"]] for part in ("train", "val", "test")}
    (tmp_path / "clinc150").mkdir()
    (tmp_path / "clinc150/data_full.json").write_text(json.dumps(sentences).replace("intent ", "intent_"))
    (tmp_path / "clinc150/domains.json").write_text(json.dumps({"all": list(intents)}))
    arguments = ("check", "clinc150", f"paths.data_dir={tmp_path}", "+data.source.in_scope=false")
    for rows, code, words in ((6, 0, "yes; 1 of 6 rows are taken with +data.source.in_scope=false"), (7, 1, "no: 6 of 7 rows")):
        known = Facts("clinc150", "title", "licence", "https://page", classes=3, rows=rows)
        monkeypatch.setattr(module, "catalogue", lambda known=known: {"clinc150": known})
        done = command(*arguments)
        assert f"  whole      {words}\n" in done.out
        assert done.code == code


@pytest.mark.slow
def test_where_to_get_a_data_set_and_what_it_shares_is_told_of_each(tmp_path):
    for name, said in {
        "miniimagenet": (
            "zenodo.org/records/7978538 (as train.py does)",
            "13 of its training classes are test classes of tiered",
        ),
        "quickdraw": ("https://storage.googleapis.com/quickdraw_dataset/full/numpy_bitmap/NAME.npy",),
        "cub": ("python -m fewshot.data prepare cub", "the test classes of split frn are the training classes of closerlook"),
        "dogs": ("its images are ImageNet's",),
        "chestx": ("by hand, from where it is published",),
        "fewrel": ("three validation files",),
    }.items():
        out = unfilled(command("check", name, f"paths.data_dir={tmp_path}").out)
        for part in said:
            assert part in out, name
