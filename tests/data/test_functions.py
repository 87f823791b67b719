"""Functions as tasks: their formulas, and that a task is a function of its number alone."""

import numpy as np
import pytest
import torch

from fewshot.data.tables.functions import FAMILIES, Functions
from tests.data.fakes import refusal

MIXED = ("sinusoid", "line", "quadratic", "absolute", "tanh")


def tasks_of(families=("sinusoid",), part="test", shots=10, queries=10, **options):
    return Functions(part, families, shots, queries, **options)


def drawn(functions, indices):
    (batch,) = functions.draw(indices)
    return batch


@pytest.mark.parametrize("families", [("sinusoid",), ("harmonic",), MIXED])
def test_a_task_is_a_function_of_its_number_alone(families):
    functions = tasks_of(families, noise=0.3)
    together, alone = drawn(functions, [5, 3, 900_000]), drawn(tasks_of(families, noise=0.3), [900_000])
    for name in ("support_x", "support_y", "query_x", "query_y"):
        assert getattr(together, name)[2].equal(getattr(alone, name)[0])
    assert together.index.tolist() == [5, 3, 900_000]


@pytest.mark.parametrize("other", [{"part": "val"}, {"seed": 1}, {"families": ("line",)}])
def test_parts_seeds_and_families_have_functions_of_their_own(other):
    assert not drawn(tasks_of(), range(4)).support_x.equal(drawn(tasks_of(**other), range(4)).support_x)


@pytest.mark.parametrize(
    ("family", "parameters", "expected"),
    [
        ("sinusoid", [0.5, 0.25], lambda x: 2.55 * np.sin(x - np.pi / 4)),
        ("line", [1.0, 0.0], lambda x: 3 * x - 3),
        ("quadratic", [0.0, 0.5, 1.0, 0.2], lambda x: -0.02 * (x - 3) ** 2),
        ("quadratic", [1.0, 0.5, 1.0, 0.7], lambda x: 0.15 * (x - 3) ** 2),
        ("absolute", [0.75, 1.0, 0.0], lambda x: 1.5 * np.abs(x + 3) + 3),
        ("tanh", [0.75, 1.0, 0.0], lambda x: 1.5 * np.tanh(x + 3) + 3),
        # amplitudes by Box and Muller: sqrt(2) cos(2 pi / 8) = 1, and sqrt(2) cos(0) = 1.4142
        (
            "harmonic",
            [0.0, 0.5, 1 - np.exp(-1), 0.125, 0.5, 1 - np.exp(-1), 0.0, 0.25],
            lambda x: np.sin(6 * x + np.pi) + 2**0.5 * np.sin(12 * x + np.pi / 2),
        ),
    ],
)
def test_formulas(family, parameters, expected):
    x = np.linspace(-5, 5, 7)[None]
    assert FAMILIES[family].values(np.array([parameters]), x) == pytest.approx(expected(x), abs=1e-12)


def test_sinusoids_vary_as_published():
    """Predicting 0 has half the mean squared amplitude as its error, (0.1^2 + 0.1 * 5 + 5^2) / 6 = 4.25."""
    batch = drawn(tasks_of(queries=200), range(2000))
    assert batch.query_y.square().mean().item() == pytest.approx(4.25, abs=0.15)
    assert batch.support_x.min().item() == pytest.approx(-5, abs=0.01)
    assert batch.support_x.max().item() == pytest.approx(5, abs=0.01)


def test_harmonics_vary_as_published():
    """Two amplitudes of variance 1 give a variance of 1; inputs have one of 1 within a task, and 8^2 / 12 between tasks."""
    batch = drawn(tasks_of(("harmonic",), queries=200), range(2000))
    assert batch.query_y.square().mean().item() == pytest.approx(1, abs=0.1)
    inputs = batch.query_x.squeeze(-1)
    assert inputs.var(dim=1).mean().item() == pytest.approx(1, abs=0.02)
    assert inputs.mean(dim=1).var().item() == pytest.approx(64 / 12, abs=0.3)


def test_each_family_has_its_share_and_noise_is_on_targets_alone():
    plain, noisy = tasks_of(MIXED, queries=50), tasks_of(MIXED, queries=50, noise=0.3)
    which, _ = plain._functions(range(2000))
    assert np.bincount(which) / 2000 == pytest.approx(np.full(5, 0.2), abs=0.03)
    a, b = drawn(plain, range(200)), drawn(noisy, range(200))
    assert a.query_x.equal(b.query_x)
    assert (b.query_y - a.query_y).std().item() == pytest.approx(0.3, abs=0.01)
    assert (b.query_y - a.query_y).mean().item() == pytest.approx(0, abs=0.01)


def test_values_are_those_of_the_tasks():
    functions = tasks_of(MIXED)
    batch = drawn(functions, [4, 2, 7])
    along = functions.values([4, 2, 7], batch.query_x.squeeze(-1).double().numpy())
    assert torch.from_numpy(along).float().allclose(batch.query_y, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"families": ("sinusiod",)}, ["data.families=['sinusiod']", "did you mean 'sinusoid'"]),
        ({"families": ()}, ["data.families=[]", "choose one of: absolute"]),
        ({"shots": 0}, ["data.test.shots=0"]),
        ({"queries": 0}, ["data.test.queries=0"]),
        ({"ways": 5}, ["data.test.ways=5", "leave it at 1"]),
        ({"noise": -1.0}, ["data.noise=-1.0"]),
    ],
)
def test_what_is_no_function_is_refused(options, words):
    message = refusal(tasks_of, **options)
    assert all(word in message for word in words), message
