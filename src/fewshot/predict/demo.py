"""The command ``demo.py``: serves one page and its answers on 127.0.0.1 until it is interrupted."""

import logging

from omegaconf import DictConfig

from fewshot.errors import UserError, check_int
from fewshot.predict.demo_server import DemoServer
from fewshot.predict.learner import FewShotLearner

log = logging.getLogger(__name__)

LARGEST_PORT = 65535


def demo(cfg: DictConfig) -> None:
    """Serves the page.

    Raises:
        UserError: the run is none of classification on images or sentences, or the port is taken.
    """
    check_int("port", cfg.port, least=0)
    if cfg.port > LARGEST_PORT:
        raise UserError(f"port={cfg.port} must be at most {LARGEST_PORT}")
    learner = FewShotLearner.from_run(cfg.run, cfg.checkpoint, trust=tuple(cfg.trust))
    run = learner.predictor.run
    if run.objective != "classification" or not (run.takes_images or run.takes_sentences):
        raise UserError(f"run={cfg.run} classifies neither images nor sentences; use fewshot.FewShotLearner in Python")
    try:
        server = DemoServer(learner, cfg.port)
    except OSError as error:
        raise UserError(f"port={cfg.port} cannot be had ({error.strerror}); choose another, or port=0") from error
    with server:
        log.info(f"Open http://127.0.0.1:{server.server_port} in a browser of this machine; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log.info("Ended")
