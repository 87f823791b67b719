"""Random numbers that are pure functions of what they are for: counter-based streams, and draws without replacement."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Key = npt.NDArray[np.uint64]


def stream_key(*parts: str | int) -> Key:
    """A 128-bit Philox key from what names a stream of random numbers (dataset, split, seed, ...)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype="<u8").astype(np.uint64)


def derived_key(key: Key, use: str, *parts: int) -> Key:
    """The key of a stream of its own beside that of `key`."""
    return stream_key(use, int(key[0]), int(key[1]), *parts)


def uniforms(key: Key, indices: Sequence[int] | IntArray, count: int) -> npt.NDArray[np.float64]:
    """`count` numbers in [0, 1) for each index, a pure function of (key, index).

    Philox-4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") is counter based: the index is the upper
    half of its counter, so index 1,000,000 costs what index 0 costs. Only the raw 64-bit words are used, whose values NumPy
    guarantees across versions, unlike those of its distributions.

    Returns:
        ``(len(indices), count)`` float64, multiples of 2**-53.
    """
    words = np.empty((len(indices), count), dtype=np.uint64)
    generator = np.random.Philox(key=key)
    state = generator.state
    counter = state["state"]["counter"] = np.zeros(4, dtype=np.uint64)
    state["buffer_pos"] = 4  # forget the words buffered for the previous index
    for row, index in enumerate(indices):
        counter[2] = index
        generator.state = state
        words[row] = generator.random_raw(count)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def sample_without_replacement(sizes: IntArray, uniform: npt.NDArray[np.float64]) -> IntArray:
    """Row by row, draws distinct numbers below ``sizes[row]``: the first steps of a Fisher-Yates shuffle.

    Each ordered choice is equally likely, up to the 2**-53 grain of `uniform`.

    Args:
        sizes: ``(R,)``, each at least `k`.
        uniform: ``(R, k)`` in [0, 1).

    Returns:
        ``(R, k)``
    """
    rows, draws = uniform.shape
    steps = np.arange(draws)
    deck = np.tile(np.arange(int(sizes.max(initial=draws))), (rows, 1))
    places = deck.reshape(-1)
    picks = steps + (uniform * (sizes[:, None] - steps)).astype(np.int64) + deck.shape[1] * np.arange(rows)[:, None]
    for step in range(draws):
        pick = picks[:, step]
        chosen = places[pick]
        places[pick] = deck[:, step]
        deck[:, step] = chosen
    return deck[:, :draws]
