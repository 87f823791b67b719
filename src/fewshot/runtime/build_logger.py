"""Loggers of a run: those of an optional package are refused at once where the package or its server is missing."""

import socket
from importlib.util import find_spec
from urllib.parse import urlsplit
from urllib.request import getproxies

from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from fewshot.errors import UserError
from fewshot.runtime.distributed import rank

STEP_KEYS = {"TensorBoard": "purge_step", "MetricsCsv": "first_step"}
"""The argument of loggers that takes the outer step from which a run continues."""
EXTRAS = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}
"""Loggers whose package is an extra of its name."""
REMEDIES = {
    "wandb": "wandb login, or logger.wandb.offline=true keeps everything in the run's folder",
    "mlflow": "start the server, or take MLFLOW_TRACKING_URI away: then figures are kept in the run's folder",
}


def build_logger(node: DictConfig, first_step: int) -> Logger:
    """A logger.

    Args:
        first_step: outer step that the run continues from; TensorBoard and ``metrics.csv`` drop what was logged of later ones.

    Raises:
        UserError: its package is not installed, or its server does not answer.
    """
    kind = node._target_.rpartition(".")[2]
    if kind in EXTRAS:
        return _build_extra(node, EXTRAS[kind])
    key = STEP_KEYS.get(kind)
    logger: Logger = instantiate(node, **({key: first_step} if key and first_step else {}))
    return logger


def _build_extra(node: DictConfig, extra: str) -> Logger:
    """A logger of an optional package, connected to its server: else it would connect with the first figure."""
    if find_spec(extra) is None:
        raise UserError(f"logger={extra} needs a package that is not installed; make extras, or pip install {extra}")
    if extra == "mlflow":
        _require_answer("logger.mlflow.tracking_uri", node.tracking_uri, REMEDIES[extra])
    if extra == "wandb" and rank() == 0 and not node.offline:
        import wandb

        settings = wandb.setup().settings  # of its own files and environment variables
        if settings.mode not in ("offline", "disabled", "dryrun"):
            _require_answer("WANDB_BASE_URL", settings.base_url, REMEDIES[extra])
    try:
        logger: Logger = instantiate(node)
        if rank() == 0:
            _ = logger.experiment  # type: ignore[attr-defined]
    except Exception as error:
        reason = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
        raise UserError(f"logger={extra} does not start ({reason}); {REMEDIES[extra]}") from error
    return logger


def _require_answer(key: str, uri: str, remedy: str) -> None:
    """Refuses a server that does not answer: its library would try for minutes. Behind a proxy, nothing is tried.

    Args:
        key: that names the server.
        uri: of the server.
        remedy: what to do instead.

    Raises:
        UserError: it does not answer.
    """
    address = urlsplit(uri)
    if address.scheme in ("http", "https") and address.scheme not in getproxies():
        try:
            port = address.port or {"http": 80, "https": 443}[address.scheme]
            socket.create_connection((address.hostname or "", port), timeout=5).close()
        except (OSError, ValueError) as error:
            raise UserError(f"{key}={uri} does not answer ({error}); {remedy}") from error
