"""Options of a data module that no data could mend: refused before anything is looked for."""

from collections.abc import Mapping, Sequence

from fewshot.data.images.augment import Transform
from fewshot.data.parts import ComputedTasks, Part
from fewshot.data.splits import Published, Split
from fewshot.errors import UserError

Parts = Mapping[str, Part | ComputedTasks]


def require_split(parts: Parts, split: Split) -> None:
    """Refuses the name of a published split that no source is divided by.

    Raises:
        UserError: it is one.
    """
    name = split.name if isinstance(split, Published) else None
    if name and all(part.source.split != name for part in parts.values() if isinstance(part, Part)):
        raise UserError(f"data.split.name={name} but {parts['train'].name} has one published split; leave it at null")


def require_inputs(parts: Parts, image_shape: tuple[int, ...], shuffled_labels: bool) -> None:
    """Refuses sizes of tasks that no table could have, and inputs that are not those that networks are configured for.

    Raises:
        UserError: there are such.
    """
    for name, part in parts.items():
        if isinstance(part, Part):
            part.sampler.check_sizes(f"data.{name}")
        if shuffled_labels and not part.has_labels:
            raise UserError(f"control=shuffled_labels but {part.name} has targets that are no labels")
        if isinstance(part, Part) and part.unknown is not None and part.unknown.x != part.x:
            raise UserError(
                f"data.{name}.unknown: rows of {part.unknown.name} are {part.unknown.x}, those of {part.name} {part.x}; "
                "choose a source of the same"
            )
        shape = list(part.x.shape)
        if list(image_shape) != shape:
            raise UserError(
                f"data.image_shape={list(image_shape)} is not that of {part.name}, {shape}, which data.{name} takes; set "
                f"data.image_shape={shape}, or another source"
            )


def require_image_options(
    parts: Parts,
    channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    augment: Sequence[Transform],
) -> None:
    """Refuses images without what normalises them, and other inputs with what is for images.

    Args:
        channels: of an image.

    Raises:
        UserError: there are such.
    """
    for part in parts.values():
        if part.x.dtype != "uint8":
            for key, values, nothing in (("mean", mean, "null"), ("std", std, "null"), ("augment", augment, "[]")):
                if values:
                    raise UserError(f"data.{key} is for images, and {part.name} has none; set data.{key}={nothing}")
            continue
        for key, of_channels in (("mean", mean), ("std", std)):
            numbers = of_channels or []
            if len(numbers) != channels or (key == "std" and not all(number > 0 for number in numbers)):
                kind = "number greater than 0" if key == "std" else "number"
                raise UserError(f"data.{key}={of_channels} must hold a {kind} for each of {channels} channels")
