"""Networks for sentences: what they compute, and that filling changes nothing."""

import pytest
import torch

from fewshot.backbones.word_gru import WordGRU
from fewshot.backbones.word_transformer import WordTransformer
from fewshot.backbones.words import EmbeddingBag, WordConv
from fewshot.errors import UserError
from fewshot.inner.unrolled import Unrolled
from fewshot.models.maml import MAML
from fewshot.models.probe import probe
from tests.data.fakes import refusal

KINDS = {"bag": EmbeddingBag, "conv": WordConv, "gru": WordGRU, "transformer": WordTransformer}
IDS = torch.tensor([[1, 5, 6, 1, 7, 0, 0, 0], [1, 9, 1, 9, 1, 9, 5, 0], [0] * 8])


def network(kind, length=8, **options):
    torch.manual_seed(0)
    return KINDS[kind](**({"image_shape": [length], "buckets": 12, "width": 4, "words": 5} | options))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("filling", [1, 56, 57, 300])
def test_filling_changes_no_bit(kind, filling):
    model = network(kind)
    assert model(torch.nn.functional.pad(IDS, (0, filling))).equal(model(IDS))
    assert model(IDS).isfinite().all()


def test_a_bag_is_a_sum_over_the_root_of_the_number():
    model = network("bag")
    table = model.words.weight
    assert model(IDS)[0].allclose((table[5] + table[6] + table[7]) / 3**0.5)
    assert model(IDS)[1].allclose((3 * table[9] + table[5]) / 2)
    assert model(IDS)[2].eq(0).all()


def test_a_convolution_sees_words_side_by_side():
    model = network("conv", filters=3)
    table, zero = model.words.weight, torch.zeros(4)
    first, second = (table[5] + table[6]) / 2**0.5, table[7]
    windows = torch.stack([torch.cat([zero, first, second]), torch.cat([first, second, zero])])
    assert model(IDS)[0].allclose(model.conv(windows).relu().amax(dim=0), atol=1e-6)


def test_a_transformer_attends_to_the_words_that_there_are():
    """A sentence of two words is the same without the places that it does not fill; the order of its words counts."""
    model, alone = network("transformer"), network("transformer")
    alone.words._words, alone.places = 2, torch.nn.Parameter(model.places[:2].clone())
    two = torch.tensor([[1, 5, 6, 1, 7, 0, 0, 0]])
    assert model(two).allclose(alone(two), atol=1e-6)
    assert not model(two).allclose(model(torch.tensor([[1, 7, 1, 5, 6, 0, 0, 0]])), atol=1e-3)
    assert model(torch.zeros(1, 8, dtype=torch.long)).eq(0).all()


def test_a_gru_is_that_of_pytorch():
    """Over the words that there are; a sentence without one leaves the state at zero."""
    model, reference = network("gru", hidden=3), torch.nn.GRU(4, 3, batch_first=True)
    for name in ("input", "state"):
        layer, kind = model.layers[name], {"input": "ih", "state": "hh"}[name]
        reference.load_state_dict({f"weight_{kind}_l0": layer.weight, f"bias_{kind}_l0": layer.bias}, strict=False)
    vectors, counts = model.words(IDS)
    for row, words in enumerate((2, 3)):
        alone = vectors[row, :words] / counts[row, :words, None].sqrt()
        assert model(IDS)[row].allclose(reference(alone[None])[0][0, -1], atol=1e-6)
    assert model(IDS)[2].eq(0).all()


@pytest.mark.parametrize("engine", ["functional", "vectorized", "learn2learn"])
def test_a_gru_can_be_adapted_to_second_order(engine):
    """The meta-gradient against central differences in double precision, and more (`probe`)."""
    inner = Unrolled(lr=0.1, steps=2, eval_steps=1)
    backbone = network("gru", length=24, buckets=6, hidden=2, words=3)  # of few ids, some begin a word
    probe(MAML(backbone, 2, 2, inner, engine, "transductive", torch.optim.SGD).double(), (24,))


def test_heads_share_the_width_out():
    with pytest.raises(UserError, match=r"width=4 is no multiple of model\.backbone\.heads=3"):
        network("transformer", heads=3)


def test_words_beyond_the_last_do_not_count():
    model = network("bag")
    ids = torch.tensor([[1, 5] * 5 + [1, 9] * 3])
    assert model(ids).equal(model(torch.tensor([[1, 5] * 5])))


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_refused(kind):
    assert "takes sentences" in refusal(lambda: KINDS[kind](image_shape=[1, 28, 28], buckets=12))


def test_a_span_has_a_middle():
    with pytest.raises(UserError, match="must be odd"):
        network("conv", span=2)
