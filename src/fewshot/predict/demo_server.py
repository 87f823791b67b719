"""A small web server for one page: pictures or sentences come in, predictions go out, nothing is kept.

It listens to this machine alone, and answers no page but its own: a request whose ``Host`` or ``Origin`` is another's is
refused, as one of a site whose name was made to point here. Each request has all examples; they are decoded as data.
"""

import base64
import binascii
import json
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from fewshot.errors import UserError
from fewshot.predict.learner import FewShotLearner
from fewshot.predict.predictor import finite
from fewshot.tasks.batch import TaskBatch, TaskRows

LARGEST_REQUEST = 64 * 2**20
"""Bytes of a request; pictures are base64."""
LARGEST_PICTURE = 10 * 2**20
"""Bytes of a picture's file."""
LONGEST_SENTENCE = 10_000
"""Letters of a sentence."""
MOST_EXAMPLES = 500
"""In a request, queries among them."""
LONGEST_NAME = 100
"""Letters of a class's name."""
NOT_OURS = "the request is none that this page makes; load the page anew"
SECONDS = 30
"""That a browser may be silent in the midst of a request."""


class DemoServer(ThreadingHTTPServer):
    """Serves the page for a learner; one request is answered at a time.

    Args:
        learner: of a run on images or sentences.
        port: of 127.0.0.1; 0 takes a free one.
    """

    daemon_threads = True

    def __init__(self, learner: FewShotLearner, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self._learner, self._lock, self.nonce = learner, threading.Lock(), secrets.token_urlsafe(16)
        self._of_text = learner.predictor.run.takes_sentences
        page = resources.files("fewshot.predict").joinpath("demo.html").read_text("utf-8")
        self.page = page.replace("NONCE", self.nonce).encode()

    @property
    def hosts(self) -> set[str]:
        """What a browser calls this server."""
        return {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    def about(self) -> dict[str, Any]:
        """What the page says of the model."""
        with self._lock:
            model = self._learner.predictor.model
            return {
                "model": model.description["model"],
                "backbone": model.description["backbone"],
                "most_ways": model.most_ways,
                "inputs": "sentences" if self._of_text else "pictures",
            }

    def answer(self, request: Any) -> dict[str, Any]:
        """Learns classes from examples and classifies others.

        Args:
            request: ``{"classes": [{"name": str, "examples": [str, ...]}, ...], "queries": [str, ...]}``, of sentences, or of
                pictures in base64.

        Returns:
            ``classes``: their names, sorted; ``queries``: probabilities of each query by step ``(steps+1, N)``;
            ``accuracy`` and ``loss``: of the examples themselves before adaptation and after each step.

        Raises:
            UserError: the request is not as it must be, or an example cannot be read.
        """
        names, examples, queries = _parsed(request, self._of_text)
        with self._lock:
            x = [self._row(item, f"class {name}") for name, item in examples]
            asked = [self._row(item, f"query {number + 1}") for number, item in enumerate(queries)]
            self._learner.fit(torch.stack(x), [name for name, _ in examples])
            predictor, support, labels = self._learner.predictor, self._learner.support.x, self._learner.support.y
            rows = torch.cat([*(row[None] for row in asked), support])
            classes = torch.arange(len(names))[None]
            targets = torch.cat([labels.new_zeros(len(asked)), labels])[None]
            task = TaskBatch(
                support[None], labels[None], rows[None], targets, TaskRows(torch.zeros(1).long(), class_id=classes)
            )
            outputs = predictor.trajectory(task)[0]
            finite(outputs[-1])
            probabilities = (outputs.double() / predictor.temperature).softmax(dim=-1).nan_to_num()  # of steps that were lost
            names = [str(name) for name in self._learner.classes_]
        found, of_examples = probabilities[:, : len(asked)], probabilities[:, len(asked) :]
        right = of_examples[:, torch.arange(len(labels)), labels]
        return {
            "classes": names,
            "queries": found.transpose(0, 1).tolist(),
            "accuracy": (of_examples.argmax(dim=-1) == labels).double().mean(dim=-1).tolist(),
            "loss": (-right.clamp(min=1e-12).log()).mean(dim=-1).tolist(),
        }

    def _row(self, item: bytes | str, where: str) -> Tensor:
        try:
            return self._learner.rows([item])[0]
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def _parsed(request: Any, of_text: bool) -> tuple[list[str], list[tuple[str, bytes | str]], list[bytes | str]]:
    """Names of classes, examples with their classes, and queries: sentences, or files of pictures."""
    read: Callable[[Any], bytes | str] = _sentence if of_text else _picture
    try:
        names = [entry["name"].strip() for entry in request["classes"]]
        of_each = [entry["examples"] for entry in request["classes"]]
        queries = request["queries"]
        if not all(isinstance(part, list) for part in (*of_each, queries)):
            raise UserError(NOT_OURS)
        if sum(map(len, (*of_each, queries))) > MOST_EXAMPLES:
            raise UserError(f"there are more than {MOST_EXAMPLES} examples and queries; take some away")
        examples = [(name, read(item)) for name, items in zip(names, of_each, strict=True) for item in items]
        found = [read(item) for item in queries]
    except (TypeError, KeyError, AttributeError, ValueError, binascii.Error) as error:
        raise UserError(NOT_OURS) from error
    if not all(0 < len(name) <= LONGEST_NAME for name in names):
        raise UserError(f"a class has no name, or one of more than {LONGEST_NAME} letters; name it")
    if len(set(names)) < max(2, len(names)) or not all(of_each):
        raise UserError("give two classes or more of different names, and an example of each")
    return names, examples, found


def _sentence(text: Any) -> str:
    if not isinstance(text, str):
        raise UserError(NOT_OURS)
    if len(text) > LONGEST_SENTENCE:
        raise UserError(f"a sentence has more than {LONGEST_SENTENCE:,} letters; shorten it")
    return text


def _picture(text: Any) -> bytes:
    content = base64.b64decode(text, validate=True)
    if len(content) > LARGEST_PICTURE:
        raise UserError(f"a picture has more than {LARGEST_PICTURE // 2**20} MB; save it smaller")
    return content


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    server_version, sys_version = "fewshot", ""
    timeout = SECONDS

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        if self.path == "/":
            self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif self.path == "/about":
            self._send_json(HTTPStatus.OK, self.server.about())
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": "there is nothing here"})

    def do_POST(self) -> None:
        self.close_connection = True  # what is refused is not read
        if self._is_ours():
            self._send_json(*self._answer())

    def _answer(self) -> tuple[HTTPStatus, dict[str, Any]]:
        if self.path != "/answer":
            return HTTPStatus.NOT_FOUND, {"error": "there is nothing here"}
        if self.headers.get_content_type() != "application/json":  # other sites may send plain text without asking
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": "send JSON"}
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return HTTPStatus.LENGTH_REQUIRED, {"error": "say how long the request is"}
        if len(length) > len(str(LARGEST_REQUEST)) or int(length) > LARGEST_REQUEST:
            most = f"the examples have more than {LARGEST_REQUEST // 2**20} MB together; take some away, or save them smaller"
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": most}
        try:
            return HTTPStatus.OK, self.server.answer(json.loads(self.rfile.read(int(length))))
        except UserError as error:
            return HTTPStatus.BAD_REQUEST, {"error": str(error)}
        except (ValueError, RecursionError):
            return HTTPStatus.BAD_REQUEST, {"error": "this is no JSON"}

    def _is_ours(self) -> bool:
        """Refuses what was not asked of this server by its own page."""
        origin, hosts = self.headers.get("Origin"), self.server.hosts
        ours = self.headers.get("Host") in hosts and (origin is None or origin in {f"http://{host}" for host in hosts})
        if not ours:
            self._send_json(HTTPStatus.FORBIDDEN, {"error": "open the page at 127.0.0.1"})
        return ours

    def _send_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        nonce = self.server.nonce
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "img-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not logged."""
