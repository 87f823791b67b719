"""The predictor: a trained run and a support set, with scikit-learn's interface."""

import inspect
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fewshot.errors import UserError, suggest
from fewshot.predict.adapted import Adapted
from fewshot.predict.errors import InputError, NotFittedError
from fewshot.predict.run_files import CALIBRATION, read_run, save_run
from fewshot.predict.unknown import SCORES
from fewshot.tasks.batch import TaskBatch, TaskRows

if TYPE_CHECKING:  # it imports Lightning, which takes seconds
    from fewshot.predict.predictor import TaskPredictor

log = logging.getLogger(__name__)

QUERIES_AT_ONCE = 512
"""That are answered in one pass, at the least; a support set that is larger is answered by as many."""


_said: set[str | Path | None] = set()
"""Runs of which it was said that queries are answered by themselves."""


@dataclass(frozen=True)
class Predicted:
    """What is said of inputs.

    Attributes:
        probabilities: ``(n, classes)``
        scores: by name, how sure it is that they are of a known class, ``(n,)`` each (`fewshot.predict.unknown`).
        nearest: ``(n,)`` the example of the support set, in the order given, whose features are nearest.
    """

    probabilities: npt.NDArray[np.float64]
    scores: dict[str, npt.NDArray[Any]]
    nearest: npt.NDArray[np.int64]


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

    @classmethod
    def load(cls, folder: str | Path, **options: Any) -> "FewShotLearner":
        """A learner with its support set that `save` has written.

        Raises:
            UserError: the folder holds none.
        """
        learner = cls.from_run(folder, **options)
        if learner._run.support is None:
            raise UserError(f"{folder} holds no learner that was saved; use FewShotLearner.from_run for a run's folder")
        names, learner._support_x, learner._support_y = learner._run.support
        learner.classes_, learner.n_features_in_ = np.array(names), learner._support_x[0].numel()
        return learner

    def save(self, folder: str | Path) -> None:
        """Writes model and support set into a folder, which `load` reads without the run: safetensors and JSON, no code.

        Raises:
            UserError: there is no support set, or the folder holds something else.
        """
        self._require_fitted()
        save_run(self._run, Path(folder).expanduser(), self.classes_.tolist(), self._support_x, self._support_y)

    def fit(self, x: Any, y: Any) -> "FewShotLearner":
        """Takes a support set.

        Args:
            x: inputs, any number of each class.
            y: their classes, of any names; or values.

        Raises:
            UserError: inputs cannot be read, or there are more classes than the model tells apart.
        """
        self._load()
        self._fit(self._predictor.reader(x), y)
        if self._run.inductive and not self.transductive and self.run not in _said:
            _said.add(self.run)
            log.warning(
                f"{self.run} was tested with queries that are answered together (transductive); here each is answered by "
                "itself. transductive=True does as published"
            )
        return self

    def predict(self, x: Any) -> npt.NDArray[Any]:
        """The class (or value) of each input ``(n,)``."""
        outputs = self.decision_function(x)
        if self._run.objective == "regression":
            return outputs[:, 0]
        found: npt.NDArray[Any] = self.classes_[outputs.argmax(axis=1)]
        return found

    def predict_proba(self, x: Any) -> npt.NDArray[np.float64]:
        """The probability of each class, ``(n, classes)``, in the order of `classes_`: calibrated, where the run was."""
        return self.say(x).probabilities

    def decision_function(self, x: Any) -> npt.NDArray[Any]:
        """The model's outputs, ``(n, classes)``: those of ``eval.py`` for the same task.

        They are equal to the bit where it evaluates one task at a time (``data.meta_batch_size=1``): tasks that are stacked in
        one operation round otherwise.
        """
        self._require_fitted()
        rows = self._predictor.reader(x)
        return np.asarray(torch.cat([self._predictor.outputs(task)[0] for task in self._tasks(rows)]).numpy())

    def score(self, x: Any, y: Any) -> float:
        """The accuracy on inputs with known classes; of a regression, the coefficient of determination R2."""
        predicted, y = self.predict(x), np.asarray(y)
        if len(predicted) != len(y):
            raise InputError(f"{len(predicted)} inputs but {len(y)} labels; give one for each")
        if self._run.objective == "classification":
            return float((predicted == y).mean())
        return float(1 - ((predicted - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())

    def known(self, x: Any, false_alarms: float = 0.05, score: str | None = None) -> npt.NDArray[np.bool_]:
        """Whether each input ``(n,)`` is of one of the support set's classes, by a threshold from the run's validation tasks.

        Args:
            x: inputs.
            false_alarms: share of inputs of known classes that may be called unknown: 0.01, 0.05, 0.1 or 0.2.
            score: ``probability``, ``energy`` or ``distance``; None takes the one that told best in validation.

        Raises:
            UserError: the run has no such threshold.
        """
        self._require_classes("unknown classes")
        name, least = self.threshold(false_alarms, score)
        return np.asarray(self.say(x).scores[name] >= least)

    def threshold(self, false_alarms: float = 0.05, score: str | None = None) -> tuple[str, float]:
        """The name of a score and the least that a known input has of it; arguments are those of `known`."""
        self._load()
        found = (self._run.calibration or {}).get("unknown")
        if not found:
            raise UserError(
                f"{self.run} has no thresholds for unknown classes ({CALIBRATION}); train with calibration_tasks=100 and more "
                "validation classes than a task has"
            )
        name = score or found["score"]
        if name not in found["scores"]:
            raise UserError(f"score={name} is unknown{suggest(str(name), found['scores'])}")
        thresholds = found["scores"][name]["thresholds"]
        if str(false_alarms) not in thresholds:
            raise UserError(f"false_alarms={false_alarms} has no threshold; choose one of: {', '.join(thresholds)}")
        return name, float(thresholds[str(false_alarms)])

    def adapt(self, x: Any = None, y: Any = None) -> nn.Module:
        """The model adapted to a support set, as a module of PyTorch: inputs ``(n, ...)`` to outputs ``(n, classes)``.

        Args:
            x, y: the support set; the one that was fitted where none is given.
        """
        if x is not None:
            self.fit(x, y)
        self._require_fitted()
        task = self._predictor.scaled(self._task(self._support_x[:0]))
        return Adapted(self._predictor.scale, self._predictor.model.adapted(task)).eval()

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
        self._run = read_run(self.run, self.checkpoint, self.trust)
        from fewshot.predict.predictor import TaskPredictor  # imports Lightning, which takes seconds

        self._predictor = TaskPredictor(self._run, self.transductive, self.device)
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
            self._order = np.arange(len(x))
        else:
            if labels.dtype.kind == "f" and (labels != labels.round()).any():
                raise InputError("Unknown label type: continuous; classes are names or whole numbers")
            classes, numbers = np.unique(labels, return_inverse=True)
            self._require_ways(classes)
            order = np.argsort(numbers.reshape(-1), kind="stable")  # rows of a class together, as in the tasks of a run
            self._support_x, self._support_y = x[order], torch.from_numpy(numbers.reshape(-1)[order].astype(np.int64))
            self.classes_, self._order = classes, order
        self.n_features_in_ = x[0].numel()

    def _require_ways(self, classes: npt.NDArray[Any]) -> None:
        if len(classes) < 2:
            raise InputError(f"the support set has 1 class, {classes[0]}; give examples of two classes or more")
        most = self._predictor.model.most_ways
        if most is not None and len(classes) > most:
            name = self._predictor.model.description["model"]
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

    @property
    def objective(self) -> str:
        """What it learned: ``classification`` or ``regression``."""
        self._load()
        return self._run.objective

    @property
    def takes_images(self) -> bool:
        """Whether inputs are images."""
        self._load()
        return self._run.row.dtype == "uint8" and len(self._run.row.shape) == 3

    @property
    def answers_together(self) -> bool:
        """Whether an answer depends on the queries that are given with it."""
        self._load()
        return bool(self.transductive and self._run.inductive)

    @property
    def has_thresholds(self) -> bool:
        """Whether the run has thresholds for unknown classes."""
        self._load()
        return bool((self._run.calibration or {}).get("unknown"))

    @property
    def predictor(self) -> "TaskPredictor":
        """What answers tasks by the run's model."""
        self._load()
        return self._predictor

    @property
    def support(self) -> tuple["TaskPredictor", Tensor, Tensor]:
        """What predicts, rows of the support set and their targets, those of a class together."""
        self._require_fitted()
        return self._predictor, self._support_x, self._support_y

    def rows(self, x: Any) -> Tensor:
        """Inputs as rows ``(n, ...)``, before they are normalised."""
        self._load()
        return self._predictor.reader(x)

    def say(self, x: Any) -> Predicted:
        """Probabilities, scores of what is known, and nearest examples of inputs."""
        self._require_classes("probabilities")
        parts = []
        for task in self._tasks(self._predictor.reader(x)):
            outputs = self._predictor.outputs(task)
            scores = self._predictor.known_scores(task, outputs)
            support, query = self._predictor.features(task)
            probabilities = (outputs[0].double() / self._predictor.temperature).softmax(dim=1)
            nearest_row = torch.cdist(query[0], support[0]).argmin(dim=1)
            parts.append([probabilities, nearest_row, *(scores[name][0].cpu() for name in SCORES)])
        found = [torch.cat(values).numpy() for values in zip(*parts, strict=True)]
        return Predicted(found[0], dict(zip(SCORES, found[2:], strict=True)), self._order[found[1]])

    def _tasks(self, queries: Tensor) -> Iterator[TaskBatch]:
        """The support set with some of the queries at a time: all, where these tell of each other."""
        at_once = len(queries) if self.transductive else max(QUERIES_AT_ONCE, len(self._support_x))
        yield from map(self._task, torch.split(queries, at_once))

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
