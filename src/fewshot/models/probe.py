"""Tries a model on one tiny meta-batch: whether what its network brings can be differentiated, batched and repeated.

Most layers can. What goes wrong with others, without an error, is a wrong number: a second derivative that PyTorch lacks or has
wrong, tasks that reach each other, randomness, a recomputation that sees other weights. So the meta-gradient is compared with
central differences of a plain loop in place, tasks together with each alone, and each answer with its repetition.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fewshot.backbones.backbone import blank_inputs, ids_of
from fewshot.errors import UserError
from fewshot.inner.call import preserve_buffers, unfused_attention
from fewshot.inner.unrolled import Unrolled
from fewshot.models.base import MetaLearner
from fewshot.models.central_differences import CLOSE, UnfitError, faulty_layer, first_order_remedy, require_meta_gradient
from fewshot.models.maml import MAML
from fewshot.tasks.batch import TaskBatch, TaskRows

log = logging.getLogger(__name__)

WAYS = 2
"""Classes of the tiny tasks."""
SHOTS = QUERIES = 2
"""Their images of each class: the least with which batch normalisation has a gradient in a layer of one position."""
CHANGES = "what it computes changes from call to call (dropout, noise, a state); an inner loop would adapt to that"
REACHES = "tasks that are computed together are not what each is alone: one reaches another"


def probe(model: MetaLearner, input_shape: Sequence[int]) -> str | None:
    """Tries each engine that a model may use.

    Args:
        model: for tasks of two ways, in double precision where its network can be. To be thrown away.
        input_shape: of one input.

    Returns:
        the engine to use, where it is not the one that was asked for.

    Raises:
        UserError: there is none.
    """
    _require_features(model, input_shape)
    if not model.takes_outer_steps:
        return None
    dtype, values = next(model.parameters()).dtype, model.objective.name == "regression"
    batch = tiny_tasks(input_shape, dtype, values=values, ids=ids_of(model.network))
    _warn_of_unused_layers(model, batch)
    if not isinstance(model, MAML):
        _try(model, batch, "")
        return None
    asked = model.description["engine"]
    of_choice = "functional" if asked == "auto" else asked
    model.use_engine(of_choice)
    expected = _try(model, batch, _remedy(of_choice))
    if asked == "auto":
        try:
            model.use_engine("vectorized")
            _require_same(model, batch, expected)
        except (UnfitError, UserError) as unfit:
            log.info(f"Inner loop: model.engine=functional, as vectorized cannot do this network: {unfit}")
            return of_choice
    return None


def _require_same(model: MetaLearner, batch: TaskBatch, expected: tuple[Tensor, ...]) -> None:
    found = (*_computed(model.train(), batch), _evaluated(model.eval(), batch))
    if not all(_same(*pair) for pair in zip(found, expected, strict=True)):
        raise UnfitError("PyTorch's vmap computes it otherwise")


def tiny_tasks(
    input_shape: Sequence[int], dtype: torch.dtype, tasks: int = 2, values: bool = False, ids: int | None = None
) -> TaskBatch:
    """Tasks of noise from 0 to 1, always the same, whose targets are labels, or the same numbers as values.

    Args:
        ids: that inputs are below, as whole numbers; None where they are real numbers.
    """
    random = torch.Generator().manual_seed(0)
    support, query = (
        torch.rand(tasks, WAYS * of_each, *input_shape, generator=random, dtype=torch.float64).to(dtype)
        for of_each in (SHOTS, QUERIES)
    )
    if ids is not None:
        support, query = ((ids * inputs.double()).long() for inputs in (support, query))
    labels = [torch.arange(WAYS).repeat_interleave(of_each).repeat(tasks, 1) for of_each in (SHOTS, QUERIES)]
    if values:
        labels = [targets.to(dtype) for targets in labels]
    rows = TaskRows(torch.arange(tasks), class_id=None if values else torch.arange(WAYS).repeat(tasks, 1))
    return TaskBatch(support, labels[0], query, labels[1], rows)


def _require_features(model: MetaLearner, input_shape: Sequence[int]) -> None:
    backbone = model.network.get_submodule("features")
    with torch.no_grad(), preserve_buffers(backbone):
        found = backbone(blank_inputs(backbone, input_shape))
    width = getattr(backbone, "out_features", None)
    if not isinstance(found, Tensor) or found.shape != (2, width):
        what = f"of shape {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise UserError(
            f"model.backbone: {type(backbone).__name__}.forward returns {what} for 2 inputs; it must return one tensor, "
            f"their features, [2, out_features={width}]"
        )


def _warn_of_unused_layers(model: MetaLearner, batch: TaskBatch) -> None:
    """Warns of layers that the forward pass never uses."""
    features = model.network.get_submodule("features")
    learned = {name: parameter for name, parameter in features.named_parameters() if parameter.requires_grad}
    if not learned:
        return
    with preserve_buffers(features), unfused_attention():
        outputs = features(batch.support_x[0])
        found: Sequence[Tensor | None] = torch.autograd.grad(outputs.sum(), list(learned.values()), allow_unused=True)
    unused = sorted({name.rpartition(".")[0] for name, grad in zip(learned, found, strict=True) if grad is None})
    if unused:
        log.warning(f"model.backbone: forward does not use {', '.join(unused)}: neither adapted nor learned")


def _remedy(engine: str) -> str:
    return "; choose another layer" if engine == "functional" else "; set model.engine=functional"


def _try(model: MetaLearner, batch: TaskBatch, remedy: str) -> tuple[Tensor, Tensor, Tensor]:
    try:
        return _check(model, batch)
    except UnfitError as unfit:
        raise UserError(f"model.backbone: {unfit}{remedy}") from unfit


def _check(model: MetaLearner, batch: TaskBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, meta-gradient and outputs of a model with the engine that it has; raises `UnfitError` where these are wrong."""
    last, inner_loop = batch.slice(1, 2), isinstance(model, MAML)
    with _require_unchanged(model, with_buffers=inner_loop):
        losses, gradient = _computed(model.train(), batch)
        alone, _ = _computed(model, last)
        if not _same(losses[1:], alone):
            random = not _same(alone, _computed(model, last)[0])
            if inner_loop or not random:
                raise UnfitError(CHANGES if random else REACHES)
    with _require_unchanged(model):
        outputs = _evaluated(model.eval(), batch)
        if not _same(outputs[1:], _evaluated(model, last)):
            raise UnfitError(REACHES if _same(outputs, _evaluated(model, batch)) else CHANGES)
        if not model.description["transductive"]:
            others = last.query_x.clone()
            others[:, -1] = (ids_of(model.network) or 2) - 1 - others[:, -1]
            changed = _evaluated(model, last.with_inputs(last.support_x, others))
            if not _same(outputs[1:, :, :-1], changed[:, :, :-1]):
                raise UnfitError("a query's answer depends on the other queries: normalise by fewshot.backbones.norm.BatchNorm")
    if isinstance(model, MAML) and isinstance(model.inner, Unrolled) and gradient.dtype == torch.float64:
        require_meta_gradient(model, model.inner, batch, gradient)
    return losses, gradient, outputs


@contextmanager
def _require_unchanged(model: MetaLearner, with_buffers: bool = True) -> Iterator[None]:
    """Refuses what changes the network."""

    def held() -> list[Tensor]:
        return [*model.network.parameters(), *(model.network.buffers() if with_buffers else ())]

    before = [(tensor, tensor.detach().clone()) for tensor in held()]
    yield
    after = held()
    if len(after) != len(before) or not all(a is b and a.equal(kept) for a, (b, kept) in zip(after, before, strict=True)):
        raise UnfitError("the network itself changes when tasks are computed: its forward writes into its weights or buffers")


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal but for rounding."""
    close = CLOSE**2 if a.dtype == torch.float64 else CLOSE
    return bool((a - b).norm() <= close * (a.norm() + close))


def _computed(model: MetaLearner, batch: TaskBatch) -> tuple[Tensor, Tensor]:
    """Losses and the mean meta-gradient, flat; leaves none behind."""
    learned = model.learned
    try:
        if isinstance(model, MAML):
            losses, _ = model.engine_for(batch).meta_gradient(batch, len(batch), model.inner.landmarks[-1])
        else:
            losses, *_ = model.meta_gradient(batch)
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
        return losses, torch.cat([gradient.flatten() for gradient in found]) if found else losses
    except (RuntimeError, TypeError, ValueError) as error:
        raise UnfitError(
            f"{_layer(error, model, batch)} cannot be differentiated ({_first_line(error)}){first_order_remedy(model)}"
        ) from error
    finally:
        for parameter in model.parameters():
            parameter.grad = None


def _evaluated(model: MetaLearner, batch: TaskBatch) -> Tensor:
    try:
        with torch.no_grad():
            return model.evaluate(batch)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UnfitError(f"{_layer(error, model, batch)} cannot be evaluated ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:160]


def _layer(error: Exception, model: MetaLearner, batch: TaskBatch) -> str:
    """The innermost layer that an error was raised in, by its name in the network; the network where it was in none."""
    inside: list[nn.Module] = []
    trace = error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and not isinstance(owner, MetaLearner):
            inside.append(owner)
        trace = trace.tb_next
    names = [(name, layer) for root in inside[:1] for name, layer in root.named_modules() if layer is inside[-1]]
    if not names:
        return faulty_layer(model, batch) or type(model.network.get_submodule("features")).__name__
    name, layer = names[0]
    return f"{name.removeprefix('module.') or 'network'} ({type(layer).__name__})"
