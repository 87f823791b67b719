"""Pictures of tasks: their images in a grid, and what became of each."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

Images = npt.NDArray[np.floating]

SHOWN_SUPPORT, SHOWN_QUERIES = 2, 5
"""Images shown of each class."""
NAME_LENGTH = 14
"""Letters of a class's name below its support image."""
CELL = 0.62
"""Width of an image, inches."""
RIGHT, DOWN = 1.15, 1.45
"""From one image to the next, in its widths and heights; the caption lies between."""


def task_pictures(
    index: npt.NDArray[np.integer],
    support: Images,
    query: Images,
    predicted: npt.NDArray[np.integer],
    confidence: npt.NDArray[np.floating],
    classes: Sequence[Sequence[str]],
) -> Figure:
    """Tasks side by side, a row a class: support images, then queries with the model's confidence in its prediction.

    A query's frame is green where it was recognised, red where not; then it carries the number of the class it was taken for.

    Args:
        index: ``(T,)`` numbers of the tasks.
        support: ``(T, N*K, H, W, 1 or 3)`` from 0 to 1, sorted by class.
        query: ``(T, N*Q, H, W, 1 or 3)`` likewise.
        predicted: ``(T, N*Q)`` class numbers, from 0; -1 for none, where outputs are not finite.
        confidence: ``(T, N*Q)`` probability of the predicted class.
        classes: ``(T, N)`` names.
    """
    tasks, ways = len(index), len(classes[0])
    all_support, all_queries = (_of_classes(images, ways) for images in (support, query))
    guesses, certain = (values.reshape(tasks, ways, -1)[:, :, :SHOWN_QUERIES] for values in (predicted, confidence))
    truth = np.arange(ways)[:, None]
    of_support, of_query = all_support[:, :, :SHOWN_SUPPORT], all_queries[:, :, :SHOWN_QUERIES]
    shots = of_support.shape[2]
    images = np.concatenate([of_support, of_query], axis=2)
    rows = images.shape[2]
    figure = Figure(figsize=(CELL * (rows * RIGHT + 0.3) * tasks, CELL * ways * DOWN + 0.55))
    for task, axes in enumerate(figure.subplots(1, tasks, squeeze=False)[0]):
        right = guesses[task] == truth
        captions = [
            [_class_caption(way + 1, classes[task][way]), *[""] * (shots - 1)]
            + [_query_caption(*query) for query in zip(right[way], guesses[task][way], certain[task][way], strict=True)]
            for way in range(ways)
        ]
        colours = [[None] * shots + ["tab:green" if ok else "tab:red" for ok in row] for row in right]
        _grid(axes, images[task], captions, colours)
        recognised = int((predicted[task].reshape(ways, -1) == truth).sum())
        number = ways * all_queries.shape[2]
        axes.set_title(
            f"task {index[task]}: {recognised} of {number} queries right, {100 * recognised / number:.0f} %", fontsize=9
        )
    supports, queries = _shown(shots, all_support.shape[2]), _shown(of_query.shape[2], all_queries.shape[2])
    figure.suptitle(
        f"of each class: {supports} support, {queries} queries, with the confidence of the prediction; red: taken for class →",
        fontsize=8,
        y=0.02,
        va="bottom",
    )
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.06, top=0.93, wspace=0.06)
    return figure


def _shown(shown: int, there: int) -> str:
    """How many images are drawn, and of how many."""
    return str(there) if shown == there else f"{shown} of {there}"


def _class_caption(number: int, name: str) -> str:
    """The number by which a wrong prediction names a class, and the end of its name, which tells more than the beginning."""
    return f"{number}: {name}" if len(name) <= NAME_LENGTH else f"{number}: …{name[1 - NAME_LENGTH :]}"


def _query_caption(right: bool, guess: int, confidence: float) -> str:
    if guess < 0:
        return "not finite"
    return f"{100 * confidence:.0f} %" if right else f"→ {guess + 1}, {100 * confidence:.0f} %"


def worst_tasks(
    index: npt.NDArray[np.integer], support: Images, classes: Sequence[Sequence[str]], accuracy: npt.NDArray[np.floating]
) -> Figure:
    """Tasks one below the other: each class's support image, framed by the accuracy on its queries, its name below.

    Args:
        index: ``(T,)`` numbers of the tasks.
        support: ``(T, N, H, W, 1 or 3)`` from 0 to 1.
        classes: ``(T, N)`` names.
        accuracy: ``(T, N)``
    """
    tasks, ways = accuracy.shape
    colours = matplotlib.colormaps["RdYlGn"](accuracy)
    captions = [
        [f"{name}\n{100 * share:.0f} %" for name, share in zip(*row, strict=True)]
        for row in zip(classes, accuracy, strict=True)
    ]
    width = 1.7 * CELL
    figure = Figure(figsize=(width * ways + 1.2, width * tasks + 0.4))
    axes = figure.subplots()
    step = _grid(axes, support, captions, colours, right=1.7, down=1.7)
    height = support.shape[2]
    for row, (task, share) in enumerate(zip(index, accuracy.mean(axis=1), strict=True)):
        axes.text(
            -0.15 * height, row * step + 0.5 * height, f"task {task}\n{100 * share:.0f} %", ha="right", va="center", fontsize=9
        )
    axes.set_title("worst validation tasks: one support image of each class, accuracy on all its queries", fontsize=9)
    figure.subplots_adjust(left=1.0 / (width * ways + 1.2), right=0.99, bottom=0.02, top=1 - 0.35 / (width * tasks + 0.4))
    return figure


def _of_classes(images: Images, ways: int) -> Images:
    """``(T, N*B, ...)`` as ``(T, N, B, ...)``."""
    return images.reshape(len(images), ways, -1, *images.shape[2:])


def _grid(axes: Axes, images: Images, captions: Sequence[Sequence[str]], colours: Sequence[Sequence[object]],
          right: float = RIGHT, down: float = DOWN) -> int:  # fmt: skip
    """Images ``(rows, columns, H, W, C)`` with captions below, framed where they have a colour.

    They are one picture to matplotlib, which is slow with many.

    Returns:
        the pixels from one row to the next.
    """
    rows, columns, height, width, _ = images.shape
    step_down, step_right = int(down * height), int(right * width)
    canvas = np.ones((rows * step_down, columns * step_right, 3))
    for row in range(rows):
        for column in range(columns):
            y, x = row * step_down, column * step_right
            canvas[y : y + height, x : x + width] = images[row, column]
            place = (x + width / 2, y + 1.06 * height)
            axes.text(*place, captions[row][column], ha="center", va="top", fontsize=6, parse_math=False)  # names of classes
            colour = colours[row][column]
            if colour is not None:
                frame = Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=colour, linewidth=2, clip_on=False)
                axes.add_patch(frame)
    axes.imshow(canvas)
    axes.axis("off")
    return step_down
