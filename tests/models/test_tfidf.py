"""TF-IDF against scikit-learn, and that document frequencies are those of the training classes alone."""

import csv
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import euclidean_distances

from fewshot.backbones.conv4 import Conv4
from fewshot.backbones.words import EmbeddingBag
from fewshot.hashing import sentence_ids
from fewshot.models.tfidf import LearnedTfidf, Tfidf
from fewshot.runtime.checkpoints import read_checkpoint
from fewshot.runtime.train import train
from fewshot.tasks.batch import RowBlock, TaskBatch, TaskRows
from tests.data.fakes import refusal

OTHERS = {"batch_norm": "running", "optimizer": partial(torch.optim.Adam, lr=1e-3)}
BUCKETS, LENGTH = 2**16, 192
TRAINING = ["pay my bill now", "is my card lost", "book a table for two", "what is my balance", "pay pay pay"]
SUPPORT = ["please pay the bill", "my card was stolen", "reserve a table tonight"]
QUERY = ["pay bills", "lost cards", "a table please", "the card again"]


def blocks(texts):
    return (RowBlock(ids, None, torch.zeros(len(ids))) for ids in rows_of(texts).split(2))


def rows_of(texts):
    return torch.from_numpy(np.stack([sentence_ids(text, 2, 4, BUCKETS, LENGTH)[0] for text in texts]))


def fitted(classifier):
    model = Tfidf(EmbeddingBag([LENGTH], BUCKETS, 2), classifier=classifier, penalty=0.7, scale=3.0, **OTHERS)
    model.fit_rows(blocks(TRAINING))
    return model


def batch():
    labels, asked = torch.arange(3)[None], torch.tensor([[0, 1, 2, 1]])
    return TaskBatch(rows_of(SUPPORT)[None], labels, rows_of(QUERY)[None], asked, TaskRows(torch.zeros(1)))


def outputs(model):
    return model.evaluate(batch())[0, 0]


@pytest.fixture(scope="module")
def vectorizer():
    """Fitted on the training sentences with the n-grams of all: scikit-learn leaves out those that it has not seen."""
    analyzer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    vocabulary = sorted({token for text in (*TRAINING, *SUPPORT, *QUERY) for token in analyzer.build_analyzer()(text)})
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), vocabulary=vocabulary).fit(TRAINING)


def test_nearest_centroid_is_that_of_scikit_learn(vectorizer):
    support, query = (vectorizer.transform(texts).toarray() for texts in (SUPPORT, QUERY))
    found = outputs(fitted("centroid"))
    np.testing.assert_allclose(found, -3 * euclidean_distances(query, support, squared=True), atol=1e-5)


def test_ridge_is_that_of_scikit_learn(vectorizer):
    support, query = (vectorizer.transform(texts).toarray() for texts in (SUPPORT, QUERY))
    ridge = Ridge(alpha=0.7, fit_intercept=False).fit(support, np.eye(3))
    np.testing.assert_allclose(outputs(fitted("ridge")), 3 * ridge.predict(query), atol=1e-5)


def test_learned_weights_begin_where_counting_ends_and_move_by_the_query_loss():
    options = {"classifier": "centroid", "penalty": 0.7, "scale": 3.0, "drop_rate": 0.0, **OTHERS}
    model = LearnedTfidf(backbone=EmbeddingBag([LENGTH], BUCKETS, 2), **options)
    model.fit_rows(blocks(TRAINING))
    torch.testing.assert_close(outputs(model), outputs(fitted("centroid")))
    losses, *_ = model.meta_gradient(batch())
    gradient = model._vectors.log_idf.grad.clone()
    assert gradient[rows_of(["zqxj"]).unique()].eq(0).all(), "n-grams that no sentence has"
    step = 1e-2 * gradient / gradient.norm()
    with torch.no_grad():
        model._vectors.log_idf -= step
    lower, *_ = model.meta_gradient(batch())
    assert lower.item() - losses.item() == pytest.approx(-1e-2 * gradient.norm().item(), rel=0.05)


def test_networks_of_images_are_refused():
    network = Conv4([1, 16, 16], filters=2)
    message = refusal(lambda: Tfidf(network, classifier="centroid", penalty=1.0, scale=1.0, **OTHERS))
    assert "takes no n-grams" in message


@pytest.mark.slow
def test_a_run_counts_training_sentences_alone_and_is_complete_at_once(compose_config, tmp_path):
    """Words of validation and test classes are poison: their n-grams keep the weight of what nobody has seen."""
    path = tmp_path / "mine.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "class", "split"])
        for part, word in (("train", "hello"), ("val", "zqxj"), ("test", "kvwy")):
            rows.writerows([f"{word} {i}", f"{part}{c}", part] for c in range(3) for i in range(10 * c, 10 * c + 8))
    cfg = compose_config(
        tmp_path, "data=sentences", f"data.source.file={path}", "model=tfidf_centroid", "data.ways=2", "data.val_tasks=3",
        "data.test_tasks=3", "data.image_shape=[64]", "callbacks=minimal", "seed=0", experiment="clinc150_5w1s",
    )  # fmt: skip
    metrics = train(cfg)
    idf = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["state_dict"]["network.features.log_idf"].exp()
    weights = [idf[rows_of_word(word, cfg)] for word in ("hello", "zqxj", "kvwy")]
    unseen = np.log(1 + 24) + 1
    assert weights[0].numpy() == pytest.approx(1.0)
    assert weights[1].numpy() == pytest.approx(unseen)
    assert weights[2].numpy() == pytest.approx(unseen)
    assert train(cfg) == metrics
    (tmp_path / "run/results.json").unlink()
    assert train(cfg) == metrics, "a run that was stopped before its test goes on with it"


def rows_of_word(word, cfg):
    row, _ = sentence_ids(word, 2, 4, cfg.data.buckets, 64)
    return torch.from_numpy(row[row > 1])
