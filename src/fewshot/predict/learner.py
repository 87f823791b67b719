"""The predictor: a trained run and a support set, with scikit-learn's interface."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fewshot.errors import UserError
from fewshot.predict.adapted import Adapted
from fewshot.predict.errors import InputError, NotFittedError
from fewshot.predict.estimator import Estimator
from fewshot.predict.predicted import Predicted
from fewshot.predict.run_files import read_run, save_run
from fewshot.predict.support_set import SupportSet, labels_of

if TYPE_CHECKING:  # it imports Lightning, which takes seconds
    from fewshot.predict.predictor import TaskPredictor

log = logging.getLogger(__name__)

_warned: set[str | Path | None] = set()
"""Runs of which it was said that queries are answered by themselves."""


class FewShotLearner(Estimator):
    """Classifies (or regresses) new inputs from a few examples of each class, with what a run has learned.

        learner = FewShotLearner.from_run("logs/train/runs/RUN").fit(["a.png", "b.png"], ["cat", "dog"])
        learner.predict(["c.png"])

    It has scikit-learn's interface and does not need scikit-learn: clones, pipelines and cross-validation work. Inputs are
    paths, images of Pillow, sentences (of a run on text), or arrays of rows, flattened or not; uint8 images are 0 to 255, float
    ones 0 to 1. They are brought to shape as the run's dataset does with its own.

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
        learner.predictor  # noqa: B018  what cannot be read is said here
        return learner

    @classmethod
    def load(cls, folder: str | Path, **options: Any) -> "FewShotLearner":
        """A learner with its support set that `save` has written.

        Raises:
            UserError: the folder holds none.
        """
        learner = cls.from_run(folder, **options)
        saved = learner.predictor.run.support
        if saved is None:
            raise UserError(f"{folder} holds no learner that was saved; use FewShotLearner.from_run for a run's folder")
        return learner._with(saved)

    def save(self, folder: str | Path) -> None:
        """Writes model and support set into a folder, which `load` reads without the run: safetensors and JSON, no code.

        Raises:
            UserError: there is no support set, or the folder holds something else.
        """
        save_run(self.predictor.run, Path(folder).expanduser(), self.support)

    def fit(self, x: Any, y: Any) -> "FewShotLearner":
        """Takes a support set.

        Args:
            x: inputs, any number of each class.
            y: their classes, of any names; or values.

        Raises:
            UserError: inputs cannot be read, or there are more classes than the model tells apart.
        """
        if y is None:
            raise InputError("fit requires y to be passed, but the target y is None; give a class or value for each input")
        predictor = self.predictor
        support = SupportSet.of(predictor.reader(x), y, regression=predictor.run.objective == "regression")
        most = predictor.model.most_ways
        if most is not None and support.ways > most:
            name = predictor.model.description["model"]
            raise InputError(
                f"the support set has {support.ways} classes, but this {name} tells at most {most} apart (data.ways in "
                "training); take fewer, or a model whose head is made for each task, such as protonet, r2d2 or protomaml"
            )
        if predictor.tested_together and not self.transductive and self.run not in _warned:
            _warned.add(self.run)
            log.warning(
                f"{self.run} was tested with queries that are answered together (transductive); here each is answered by "
                "itself. transductive=True does as published"
            )
        return self._with(support)

    def predict(self, x: Any) -> npt.NDArray[Any]:
        """The class (or value) of each input ``(n,)``; ratings are cut to their scale, as in an evaluation."""
        outputs = self._outputs(x)
        if self.support.classes is None:
            return np.asarray(self.predictor.model.objective.predict(torch.from_numpy(outputs))[0].numpy())
        found: npt.NDArray[Any] = self.classes_[outputs.argmax(axis=1)]
        return found

    def predict_proba(self, x: Any) -> npt.NDArray[np.float64]:
        """The probability of each class, ``(n, classes)``, in the order of `classes_`: calibrated, where the run was."""
        return self.say(x).probabilities

    def decision_function(self, x: Any) -> npt.NDArray[Any]:
        """The model's outputs, ``(n, classes)``: those of ``eval.py`` for the same task.

        They are equal to the bit where it evaluates one task at a time (``data.meta_batch_size=1``): tasks that are stacked in
        one operation round otherwise. Of two classes there is one number, ``(n,)``, as scikit-learn has it: the output of the
        second class minus that of the first.

        Raises:
            UserError: some are not finite: the model has diverged on this support set.
        """
        outputs = self._outputs(x)
        return outputs[:, 1] - outputs[:, 0] if self.support.ways == 2 else outputs

    def _outputs(self, x: Any) -> npt.NDArray[Any]:
        support, predictor = self.support, self.predictor
        tasks = support.tasks(predictor.reader(x), self.transductive)
        return np.asarray(torch.cat([predictor.answers(task) for task in tasks]).numpy())

    def score(self, x: Any, y: Any) -> float:
        """The accuracy on inputs with known classes; of a regression, the coefficient of determination R2."""
        predicted = self.predict(x)
        y = labels_of(y, len(predicted))
        if self.support.classes is not None:
            if isinstance(y[0], str) != isinstance(predicted[0], str):
                kinds = ["names" if isinstance(labels[0], str) else "numbers" for labels in (y, predicted)]
                raise InputError(f"y has {kinds[0]}, and the classes of the support set are {kinds[1]}; give the same")
            return float((predicted == y).mean())
        errors, around = ((predicted - y) ** 2).sum(), ((y - y.mean()) ** 2).sum()
        return float(1 - errors / around) if around else float(errors == 0)  # as scikit-learn has it

    def known(self, x: Any, false_alarms: float = 0.05, score: str | None = None) -> npt.NDArray[np.bool_]:
        """Whether each input ``(n,)`` is of one of the support set's classes, by a threshold from the run's validation tasks.

        Args:
            x: inputs.
            false_alarms: share of inputs of known classes that may be called unknown: 0.01, 0.05, 0.1 or 0.2.
            score: ``probability``, ``energy`` or ``distance``; None takes the one that told best in validation.

        Raises:
            UserError: the run has no such threshold.
        """
        name, least = self.threshold(false_alarms, score)
        return np.asarray(self.say(x).scores[name] >= least)

    def threshold(self, false_alarms: float = 0.05, score: str | None = None) -> tuple[str, float]:
        """The name of a score and the least that a known input has of it; arguments are those of `known`."""
        return self.predictor.run.threshold(false_alarms, score)

    def adapt(self, x: Any = None, y: Any = None) -> nn.Module:
        """The model adapted to a support set, as a module of PyTorch: inputs ``(n, ...)`` to outputs ``(n, classes)``.

        Args:
            x, y: the support set; the one that was fitted where none is given.
        """
        if x is not None:
            self.fit(x, y)
        task = self.predictor.scaled(self.support.task(self.support.x[:0]))
        return Adapted(self.predictor.scale, self.predictor.model.adapted(task)).eval()

    def rows(self, x: Any) -> Tensor:
        """Inputs as rows ``(n, ...)``, before they are normalised."""
        return self.predictor.reader(x)

    def say(self, x: Any) -> Predicted:
        """Probabilities, scores of what is known, and nearest examples of inputs.

        Raises:
            UserError: the run is of a regression.
        """
        support, predictor = self.support, self.predictor
        if support.classes is None:
            raise UserError("a regression has no probabilities, nor unknown classes; use predict")
        return Predicted.of(predictor, support, predictor.reader(x), self.transductive)

    @property
    def predictor(self) -> "TaskPredictor":
        """What answers tasks by the run's model: read once for each setting of the parameters."""
        if self.run is None:
            raise InputError("run=None: give the folder of a run, as in FewShotLearner.from_run('logs/train/runs/RUN')")
        wanted = (str(self.run), self.checkpoint, bool(self.transductive), str(self.device), tuple(self.trust))
        if getattr(self, "_loaded", None) != wanted:
            run = read_run(self.run, self.checkpoint, self.trust)
            from fewshot.predict.predictor import TaskPredictor  # imports Lightning, which takes seconds

            self._predictor, self._loaded = TaskPredictor(run, self.transductive, self.device), wanted
        return self._predictor

    @property
    def support(self) -> SupportSet:
        """The support set.

        Raises:
            NotFittedError: there is none yet.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this FewShotLearner has no support set yet; call fit(x, y) first")
        return self._support

    def _with(self, support: SupportSet) -> "FewShotLearner":
        self._support = support
        self.classes_ = np.array([]) if support.classes is None else support.classes
        self.n_features_in_ = support.x[0].numel()
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_support")

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn wants to know; only it asks."""
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        run = self.predictor.run
        classifies, two = run.objective == "classification", len(run.row.shape) > 1
        return Tags(
            estimator_type="classifier" if classifies else "regressor",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags() if classifies else None,
            regressor_tags=None if classifies else RegressorTags(),
            input_tags=InputTags(two_d_array=True, three_d_array=two, string=run.source is not None),
        )
