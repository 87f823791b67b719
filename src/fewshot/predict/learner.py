"""The predictor: a trained run and a support set, with scikit-learn's interface."""

import inspect
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fewshot.errors import UserError
from fewshot.inner.auto_engine import AutoEngine
from fewshot.predict.adapted import Adapted
from fewshot.predict.errors import InputError, NotFittedError
from fewshot.predict.inputs import Reader, Scale
from fewshot.predict.run_files import Run, read_run
from fewshot.tasks.batch import TaskBatch, TaskRows

if TYPE_CHECKING:  # it imports Lightning, which takes seconds
    from fewshot.models.base import MetaLearner

log = logging.getLogger(__name__)

QUERIES_AT_ONCE = 512
"""That are answered in one pass, at the least; a support set that is larger is answered by as many."""


class FewShotLearner:
    """Classifies (or regresses) new inputs from a few examples of each class, with what a run has learned.

        learner = FewShotLearner.from_run("logs/train/runs/RUN").fit(["a.png", "b.png"], ["cat", "dog"])
        learner.predict(["c.png"])

    It has scikit-learn's interface and does not need scikit-learn: clones, pipelines and cross-validation work. Inputs are
    paths, images of Pillow, sentences (of a run on text), or arrays of rows, flattened or not; uint8 images are 0 to 255, float
    ones 0 to 1. They are brought to shape as the run's data set does with its own.

    Args:
        run: a run's folder, or one that `save` has written.
        checkpoint: ``best`` on validation, ``last`` or ``previous``.
        transductive: answer queries together, each normalised (or told) by the others, where the run was tested so, as
            published. False answers each query by itself, whatever comes with it.
        device: that computes.
        trust: packages beside this project's whose classes the run's config may name: importing them runs their code.

    Attributes:
        classes_: names of the classes, sorted; of a regression, none.
        n_features_in_: numbers of an input.
    """

    def __init__(
        self,
        run: str | Path | None = None,
        checkpoint: str = "best",
        transductive: bool = False,
        device: str = "cpu",
        trust: Sequence[str] = (),
    ) -> None:
        self.run = run
        self.checkpoint = checkpoint
        self.transductive = transductive
        self.device = device
        self.trust = trust

    @classmethod
    def from_run(cls, run: str | Path, checkpoint: str = "best", **options: Any) -> "FewShotLearner":
        """The predictor of a run's folder.

        Args:
            run: the folder, such as ``logs/train/runs/RUN``.
            checkpoint: ``best`` on validation, ``last`` or ``previous``.
            options: ``transductive``, ``device``, ``trust``.

        Raises:
            UserError: it is no run, has no such checkpoint, or is of another version of the project.
        """
        learner = cls(run, checkpoint, **options)
        learner._load()
        return learner

    def fit(self, x: Any, y: Any) -> "FewShotLearner":
        """Takes a support set.

        Args:
            x: inputs, any number of each class.
            y: their classes, of any names; or values.

        Raises:
            UserError: inputs cannot be read, or there are more classes than the model tells apart.
        """
        self._load()
        self._fit(self._reader(x), y)
        return self

    def predict(self, x: Any) -> npt.NDArray[Any]:
        """The class (or value) of each input ``(n,)``."""
        outputs = self.decision_function(x)
        if self._run.objective == "regression":
            return outputs[:, 0]
        found: npt.NDArray[Any] = self.classes_[outputs.argmax(axis=1)]
        return found

    def predict_proba(self, x: Any) -> npt.NDArray[np.float64]:
        """The probability of each class, ``(n, classes)``, in the order of `classes_`."""
        self._require_classes("probabilities")
        outputs = torch.from_numpy(self.decision_function(x))
        return np.asarray(outputs.softmax(dim=1).numpy())

    def decision_function(self, x: Any) -> npt.NDArray[Any]:
        """The model's outputs, ``(n, classes)``: those of ``eval.py`` for the same task.

        They are equal to the bit where it evaluates one task at a time (``data.meta_batch_size=1``): tasks that are stacked in
        one operation round otherwise.
        """
        self._require_fitted()
        return np.asarray(self._outputs(self._reader(x)).numpy())

    def score(self, x: Any, y: Any) -> float:
        """The accuracy on inputs with known classes; of a regression, the coefficient of determination R2."""
        predicted, y = self.predict(x), np.asarray(y)
        if len(predicted) != len(y):
            raise InputError(f"{len(predicted)} inputs but {len(y)} labels; give one for each")
        if self._run.objective == "classification":
            return float((predicted == y).mean())
        return float(1 - ((predicted - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())

    def adapt(self, x: Any = None, y: Any = None) -> nn.Module:
        """The model adapted to a support set, as a module of PyTorch: inputs ``(n, ...)`` to outputs ``(n, classes)``.

        Args:
            x, y: the support set; the one that was fitted where none is given.
        """
        if x is not None:
            self.fit(x, y)
        self._require_fitted()
        return Adapted(self._scale, self._model.adapted(self._scaled(self._task(self._support_x[:0])))).eval()

    # scikit-learn's conventions

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """What it was made with, by name."""
        return {name: getattr(self, name) for name in list(inspect.signature(type(self).__init__).parameters)[1:]}

    def set_params(self, **params: Any) -> "FewShotLearner":
        """Changes what it is made with; what was fitted is kept until `fit`."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"Invalid parameter {name!r} for estimator {self}. Valid parameters are: {list(known)!r}.")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_support_x")

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn wants to know; only it asks."""
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        self._load()
        kind, two = self._run.objective, len(self._run.row.shape) > 1
        return Tags(
            estimator_type="classifier" if kind == "classification" else "regressor",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags() if kind == "classification" else None,
            regressor_tags=RegressorTags() if kind == "regression" else None,
            input_tags=InputTags(two_d_array=True, three_d_array=two, string=self._run.source is not None),
        )

    # within

    def _load(self) -> None:
        """Reads the run, once for each setting of the parameters."""
        if self.run is None:
            raise InputError("run=None: give the folder of a run, as in FewShotLearner.from_run('logs/train/runs/RUN')")
        wanted = (str(self.run), self.checkpoint, bool(self.transductive), str(self.device), tuple(self.trust))
        if getattr(self, "_loaded", None) == wanted:
            return
        run = read_run(self.run, self.checkpoint, self.trust)
        if run.inductive and not self.transductive:
            log.warning(
                f"{self.run} was tested with queries that are answered together (transductive); here each is answered by "
                "itself. transductive=True does as published"
            )
        self._run: Run = run
        self._model: MetaLearner = run.build_model(self.transductive).to(self.device)
        data = run.config["data"]
        self._reader = Reader(run.row, run.source)
        self._scale = Scale(run.row, data.get("mean", []), data.get("std", [])).to(self.device)
        self._loaded = wanted

    def _fit(self, x: Tensor, y: Any) -> None:
        labels = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
        if labels.shape != (len(x),):
            raise InputError(f"y has shape {list(labels.shape)} but there are {len(x)} inputs; give one label for each")
        if self._run.objective == "regression":
            targets = torch.from_numpy(labels.astype(np.float32))
            if not targets.isfinite().all():
                raise InputError("y contains NaN or infinity; leave such rows out")
            self._support_x, self._support_y, self.classes_ = x, targets, np.array([])
        else:
            if labels.dtype.kind == "f" and (labels != labels.round()).any():
                raise InputError("Unknown label type: continuous; classes are names or whole numbers")
            classes, numbers = np.unique(labels, return_inverse=True)
            self._require_ways(classes)
            order = np.argsort(numbers.reshape(-1), kind="stable")  # rows of a class together, as in the tasks of a run
            self._support_x, self._support_y = x[order], torch.from_numpy(numbers.reshape(-1)[order].astype(np.int64))
            self.classes_ = classes
        self.n_features_in_ = x[0].numel()

    def _require_ways(self, classes: npt.NDArray[Any]) -> None:
        if len(classes) < 2:
            raise InputError(f"the support set has 1 class, {classes[0]}; give examples of two classes or more")
        most = self._model.most_ways
        if most is not None and len(classes) > most:
            name = self._model.description["model"]
            raise InputError(
                f"the support set has {len(classes)} classes, but this {name} tells at most {most} apart (data.ways in "
                "training); take fewer, or a model whose head is made for each task, such as protonet, r2d2 or protomaml"
            )

    def _require_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this FewShotLearner has no support set yet; call fit(x, y) first")

    def _require_classes(self, what: str) -> None:
        self._require_fitted()
        if self._run.objective != "classification":
            raise UserError(f"a regression has no {what}; use predict")

    def _outputs(self, queries: Tensor) -> Tensor:
        """Outputs ``(n, classes)`` for rows ``(n, ...)``."""
        at_once = len(queries) if self.transductive else max(QUERIES_AT_ONCE, len(self._support_x))
        found = [self._evaluated(self._task(part))[0] for part in torch.split(queries, at_once)]
        return torch.cat(found)

    def _evaluated(self, batch: TaskBatch) -> Tensor:
        """The model's outputs for tasks after adaptation ``(T, B, outputs)``, computed as in an evaluation of the run."""
        if isinstance(self._model.engine, AutoEngine):
            self._model.use_engine("auto")  # type: ignore[operator]  # chooses by these tasks, not by those before them
        half = self._run.config["trainer"].get("precision") == "bf16-mixed"
        with torch.no_grad(), torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=half):
            return self._model.evaluate(self._scaled(batch))[:, -1].to(torch.float32).cpu()

    def _scaled(self, batch: TaskBatch) -> TaskBatch:
        batch = batch.to(self.device)
        return batch.with_inputs(self._scale(batch.support_x), self._scale(batch.query_x))

    def _task(self, queries: Tensor) -> TaskBatch:
        """The task of the support set and some queries, whose targets are not known."""
        classes = None if self._run.objective == "regression" else torch.arange(len(self.classes_))[None]
        return TaskBatch(
            self._support_x[None],
            self._support_y[None],
            queries[None],
            torch.zeros(1, len(queries), dtype=self._support_y.dtype),
            TaskRows(torch.zeros(1, dtype=torch.int64), class_id=classes),
        )
