"""Frozen encoders of sentences: their features, their digests, and what is refused."""

import copy
import json
import shutil

import pytest
import torch

from fewshot.backbones import encoder_files
from fewshot.backbones.sentence_encoder import SentenceEncoder
from fewshot.errors import UserError
from tests.encoders import WIDTH, WORDS, needs_encoders, write_encoder

pytestmark = pytest.mark.slow  # the package takes seconds to be imported
SENTENCES = ["unheard", *(" ".join(WORDS[2 : 3 + n]) for n in range(1, 20))]
"""Of one word to twenty."""


def make(name, **changes):
    return SentenceEncoder(**({"image_shape": [64], "buckets": 512, "name": str(name)} | changes))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The folder of an encoder, to be copied before it is changed."""
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@needs_encoders
@pytest.mark.parametrize("static", [False, True])
def test_features_are_those_of_the_library_for_each_sentence_alone(tmp_path, encoder, static):
    """To the bit, whatever sentences are longer; the library itself fills sentences up that it encodes together."""
    from sentence_transformers import SentenceTransformer

    folder = write_encoder(tmp_path / "static", static=True) if static else encoder
    backbone, reference = make(folder), SentenceTransformer(str(folder), device="cpu")
    found = backbone(SENTENCES)
    assert found.shape == (20, backbone.out_features) == (20, WIDTH)
    assert torch.equal(found, torch.stack([reference.encode(one, convert_to_tensor=True) for one in SENTENCES]))
    assert torch.equal(found[1:3], backbone(SENTENCES[1:3]))
    torch.testing.assert_close(found, reference.encode(SENTENCES, convert_to_tensor=True), rtol=0, atol=1e-6)
    assert torch.equal(backbone(found), found)
    prompted = make(folder, prompt="say 1 ")(SENTENCES)
    assert torch.equal(prompted, backbone([f"say 1 {one}" for one in SENTENCES]))
    assert not torch.equal(prompted, found)
    files = bytes(make(folder).digest.tolist()).hex()[:8]
    assert make(folder, prompt="say ").title == f"SentenceEncoder {folder.name} ({files}), prompt 'say '"


@needs_encoders
def test_its_digest_is_of_content_and_of_the_prompt(tmp_path, encoder):
    shutil.copytree(encoder, tmp_path / "copy")
    (tmp_path / "copy/README.md").write_text("of no account")
    first, copied, prompted = make(encoder), make(tmp_path / "copy"), make(encoder, prompt="say ")
    other = make(write_encoder(tmp_path / "other", seed=1))
    assert first.sha256 == copied.sha256
    assert len({one.sha256 for one in (first, prompted, other)}) == 3


@needs_encoders
def test_a_checkpoint_has_its_digest_and_refuses_another_of_its_name(tmp_path, encoder):
    folder = tmp_path / "mine"
    shutil.copytree(encoder, folder)
    before = make(folder)
    state = before.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {"digest": (32,)}
    assert not list(before.parameters())
    assert copy.deepcopy(before)._encoder is before._encoder
    make(folder).load_state_dict(state)
    write_encoder(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other/model.safetensors", folder)
    with pytest.raises(UserError, match=rf"name={folder} is another encoder than the one .*; put those back, or train anew"):
        make(folder).load_state_dict(state)


@needs_encoders
def test_ids_are_no_features(encoder):
    with pytest.raises(TypeError, match="ids are no features"):
        make(encoder)(torch.zeros(2, WIDTH, dtype=torch.int64))


@needs_encoders
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("code", r"of its own \(ValueError: The model .* references the module class 'mine\.Thing'"),
        ("pickle", r"no sentence encoder with weights in \.safetensors .*\(OSError"),
        ("cut off", r"no sentence encoder with weights in \.safetensors .*\(\w*Error"),
        ("nothing", r"is no sentence encoder, which has modules\.json or config\.json; choose another"),
    ],
)
def test_what_is_no_encoder_or_brings_code_is_refused(tmp_path, encoder, capsys, change, message):
    folder = tmp_path / "mine"
    shutil.copytree(encoder, folder)
    weights = folder / "model.safetensors"
    if change == "code":
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps([*modules, {"idx": 2, "name": "2", "path": "", "type": "mine.Thing"}]))
        (folder / "mine.py").write_text("print('run')\nclass Thing: pass\n")
    elif change == "pickle":
        torch.save({}, folder / "pytorch_model.bin")
        weights.unlink()
    elif change == "cut off":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        shutil.rmtree(folder)
        folder.mkdir()
    with pytest.raises(UserError, match=message):
        make(folder)
    assert "run" not in capsys.readouterr().out


@needs_encoders
def test_a_name_is_looked_for_in_the_cache_and_asked_for_once(tmp_path, encoder, monkeypatch):
    """What was downloaded is taken without asking; a download that was cut off goes on; who does not answer is asked once."""
    asked, hub = [], {}

    def download(model, allow_patterns, local_files_only=False):
        asked.append((model, local_files_only))
        assert "*.bin" not in allow_patterns
        if local_files_only and not hub["here"]:
            raise FileNotFoundError(model)
        return str(cut_off if local_files_only and hub["here"] == "in part" else encoder)

    def model_info(_self, model, timeout):
        assert timeout == encoder_files.SECONDS
        if not hub["answers"]:
            raise ConnectionError("Name or service not known\nand so on")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    cut_off = tmp_path / "cut off"
    cut_off.mkdir()
    expected = make(encoder).sha256
    for here, answers, calls in (("whole", False, [True]), ("in part", True, [True, False]), ("", True, [True, False])):
        hub.update(here=here, answers=answers)
        asked.clear()
        assert make("somebody/model").sha256 == expected
        assert asked == [("somebody/model", local) for local in calls]
    hub.update(here="", answers=False)
    asked.clear()
    with pytest.raises(
        UserError, match=r"name=tiny is no folder, is not in \S+, .*\(ConnectionError: Name .* known\); download .*=FOLDER$"
    ):
        make("tiny")
    assert asked == [("sentence-transformers/tiny", True)]


@pytest.mark.parametrize("installed", [None, "5.9.0"])
def test_the_package_is_an_extra(monkeypatch, installed):
    monkeypatch.setattr(encoder_files, "find_spec", lambda _: installed)
    monkeypatch.setattr(encoder_files, "version", lambda _: installed)
    with pytest.raises(UserError, match=r"needs a package that is not installed; make extras, or pip install"):
        make("tiny")


def test_images_are_no_sentences():
    with pytest.raises(UserError, match=r"SentenceEncoder takes sentences, but the data, of shape \[1, 28, 28\], are none"):
        make("tiny", image_shape=[1, 28, 28], buckets=None)
