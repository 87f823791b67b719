"""Vectors of words from a file: what is read, what is refused, and what networks make of known and of other words."""

import numpy as np
import pytest
import torch

from fewshot.backbones.vector_file import read_vectors
from fewshot.backbones.word_gru import WordGRU
from fewshot.backbones.words import SPREAD, EmbeddingBag, WordConv
from fewshot.errors import UserError
from fewshot.hashing import sentence_ids
from fewshot.inner.unrolled import Unrolled
from fewshot.models.maml import MAML
from fewshot.tasks.batch import TaskBatch, TaskRows
from tests.data.fakes import refusal

GLOVE = "pay 1 2 3\nBill 9 9 9\nmy -1 0.5 0\n. . 1 1 1\nbill 0 0 1e0\n"
"""Two words in it are none of a sentence's: one has a capital, one a space within."""
VECTORS = {"pay": [1, 2, 3], "my": [-1, 0.5, 0], "bill": [0, 0, 1]}
BUCKETS, NGRAMS, LENGTH = 500, (2, 4), 60


def written(path, content=GLOVE):
    path.write_text(content)
    return str(path)


def rows(*sentences, length=LENGTH):
    return torch.from_numpy(np.stack([sentence_ids(one, *NGRAMS, BUCKETS, length)[0] for one in sentences]))


def network(kind, file=None, **options):
    torch.manual_seed(0)
    given = {"vectors": file, "vocabulary": 5, "ngrams": NGRAMS, "width": 3, "words": 4}
    return kind(image_shape=[LENGTH], buckets=BUCKETS, **(given | options))


def scaled(word):
    """Vectors are multiplied by one number, so that their mean squared length is an n-gram's."""
    every = np.array(list(VECTORS.values()))
    return torch.tensor(np.array(VECTORS[word]) * (SPREAD / (every**2).sum(axis=1).mean()) ** 0.5, dtype=torch.float32)


@pytest.mark.parametrize("start", ["", "5 3\n"], ids=["GloVe", "fastText"])
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_words_in_lower_case_are_read_in_their_order(tmp_path, start, end):
    file = written(tmp_path / "a.vec", start + GLOVE.replace("\n", end))
    words, vectors = read_vectors(file, 3, 10)
    assert words == list(VECTORS)
    assert vectors.tolist() == list(VECTORS.values())
    assert read_vectors(file, 3, 2)[0] == ["pay", "my"]


def test_an_array_goes_with_a_list_of_words(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1, 2], [3, 4], [5, 6]], np.float64))
    written(tmp_path / "a.txt", "one\nTwo\nthree\n")
    words, vectors = read_vectors(str(tmp_path / "a.npy"), 2, 10)
    assert words == ["one", "three"]
    assert vectors.tolist() == [[1, 2], [5, 6]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("pay 1 2\nmy 1 2\n", r"line 1: not a word and .*width=3 numbers, but 2 fields after 'pay'; set .*width=2"),
        ("2 2\npay 1 2\nmy 1 2\n", r"line 2: .*set model\.backbone\.width=2"),
        (GLOVE + "card 1 2", r"line 6: .* but 2 fields after 'card'; the file is not whole"),
        (GLOVE + "card 1 2 3 4\n", "line 6: .* but 4 fields after 'card'"),
        (GLOVE + "card 1 two 3\n", "line 6: .* but 3 fields"),
        (GLOVE + "my 1 1 1\n", "'my' is in line 3 and in line 6; take one out"),
        (GLOVE + "card 1 nan 3\n", "the vector of 'card' is not finite"),
        (GLOVE + "card 1 1e300 3\n", "the vector of 'card' is not finite"),
        ("", "holds no word in lower case"),
        ("Pay 1 2 3\n", "holds no word in lower case"),
    ],
)
def test_what_is_no_file_of_vectors_is_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_vectors(written(tmp_path / "a.txt", content), 3, 10)


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_refused(tmp_path):
    (tmp_path / "a.vec").write_bytes(b"pay 1 2 3\n\xff 1 2 3\n")
    assert "no UTF-8" in refusal(read_vectors, str(tmp_path / "a.vec"), 3, 10)
    assert "b.vec cannot be read (No such file" in refusal(read_vectors, str(tmp_path / "b.vec"), 3, 10)
    np.save(tmp_path / "c.npy", np.zeros((2, 3)))
    assert "c.txt cannot be read (No such file" in refusal(read_vectors, str(tmp_path / "c.npy"), 3, 10)


@pytest.mark.parametrize(
    ("array", "words", "message"),
    [
        (np.zeros((2, 3)), "a\nb\nc\n", "shape [2, 3], and a.txt has 3 lines"),
        (np.zeros((2, 3), int), "a\nb\n", "is int64 of shape"),
        (np.zeros((2, 4)), "a\nb\n", "has 4 numbers a word; set model.backbone.width"),
        (np.zeros((2, 3)), "a\na\n", "'a' is twice in a.txt"),
        (np.array([print]), "a\n", "/a.npy cannot be read as an array (it holds objects); replace the file"),
    ],
)
def test_what_is_no_array_of_vectors_is_refused(tmp_path, array, words, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    written(tmp_path / "a.txt", words)
    assert message in refusal(read_vectors, str(tmp_path / "a.npy"), 3, 10)


def test_known_words_have_their_vectors_and_others_the_sum_of_their_ngrams(tmp_path):
    model = network(EmbeddingBag, written(tmp_path / "a.txt"))
    assert model.title == "EmbeddingBag with vectors of a.txt"
    ids = rows("pay my card", "bill", "")
    vectors, counts = model.words(ids)
    card = rows("card")[0]
    ngrams = card[card > 1]
    assert counts.tolist() == [[1, 1, len(ngrams), 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert vectors[0, :2].allclose(torch.stack([scaled("pay"), scaled("my")]))
    assert vectors[0, 2].allclose(model.words.weight[ngrams].sum(dim=0), atol=1e-6)
    assert vectors[1, 0].allclose(scaled("bill"))
    total, number = model.words.of_sentence(ids)
    assert total.allclose(vectors.sum(dim=1), atol=1e-6)
    assert number.equal(counts.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("kind", [EmbeddingBag, WordConv, WordGRU])
def test_filling_changes_no_bit(tmp_path, kind):
    model = network(kind, written(tmp_path / "a.txt"))
    sentences = ("pay my card bill", "bill", "", "pay my bill or my card")
    assert model(rows(*sentences, length=300)).equal(model(rows(*sentences)))


def test_words_beyond_the_last_do_not_count(tmp_path):
    model = network(EmbeddingBag, written(tmp_path / "a.txt"))
    assert model(rows("a b pay c my")).equal(model(rows("a b pay c")))


def test_words_are_found_whatever_the_other_words(tmp_path):
    """A thousand words, each by its own n-grams alone."""
    words = [f"{first}{second}{third}" for first in "abcdefghij" for second in "klmnopqrst" for third in "uvwxyz0123"]
    content = "".join(f"{word} {number} 0 1\n" for number, word in enumerate(words))
    known = network(EmbeddingBag, written(tmp_path / "a.txt", content), vocabulary=1000).words.known
    ids = rows(*words, *(word[::-1] for word in words), "bku0")
    vectors, found = known(ids, (ids > 1).long(), 1)
    assert found[:, 0].tolist() == [True] * 1000 + [False] * 1001
    assert (vectors[:1000, 0, 0] / vectors[0, 0, 2]).round().tolist() == list(range(1000))


def test_vectors_travel_with_the_weights_and_do_not_learn(tmp_path):
    model = network(WordConv, written(tmp_path / "a.txt"))
    (tmp_path / "a.txt").unlink()
    other = network(WordConv, str(tmp_path / "a.txt"), load=False)
    other.load_state_dict(model.state_dict())
    ids = rows("pay my card", "bill")
    assert other(ids).equal(model(ids))
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learning == ["words.weight", "conv.weight", "conv.bias"]


def test_every_engine_takes_them(tmp_path):
    backbone = network(WordConv, written(tmp_path / "a.txt"), filters=3)
    inner = Unrolled(lr=0.1, steps=2, eval_steps=1)
    model = MAML(backbone, 2, 2, inner, "functional", "transductive", torch.optim.SGD).double()
    support, query = rows("pay my bill", "my card", "bill", "card"), rows("my bill", "pay card")
    labels = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 1]]), torch.tensor([[0, 1], [1, 0]])
    batch = TaskBatch(support.expand(2, -1, -1), labels[0], query.expand(2, -1, -1), labels[1], TaskRows(torch.arange(2)))
    found = []
    for engine in ("functional", "vectorized", "learn2learn"):
        model.use_engine(engine)
        model.zero_grad()
        losses, _ = model.meta_gradient(batch)
        found.append([losses, *(p.grad for p in model.parameters() if p.requires_grad)])
    assert found[0][1].abs().sum() > 0
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ngrams": None}, "set model.backbone.ngrams"),
        ({"positions": 20}, "set data.source.positions=0"),
        ({"vocabulary": 0}, "model.backbone.vocabulary=0 must be"),
        ({"width": 4}, "set model.backbone.width=3"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, options, message):
    assert message in refusal(network, EmbeddingBag, written(tmp_path / "a.txt"), **options)
