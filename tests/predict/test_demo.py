"""The page and its answers over HTTP: what a learner says, and nothing for strangers."""

import base64
import http.client
import json
import re
import threading
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fewshot import FewShotLearner
from fewshot.predict import demo_server
from fewshot.predict.demo_server import DemoServer
from tests.entry import main
from tests.predict.test_learner import TRUST
from tests.runs import tasks_of, untrained


@pytest.fixture(scope="module")
def serve(compose_config, tmp_path_factory):
    """A server of an untrained run, and the task that pictures are taken from; one for each model."""
    made = {}

    def make(model="maml"):
        if model not in made:
            cfg = compose_config(tmp_path_factory.mktemp(model), f"model={model}")
            folder, _ = untrained(cfg)
            server = DemoServer(FewShotLearner.from_run(folder, trust=TRUST), 0)
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            made[model] = server, tasks_of(cfg, count=1)[0]
        return made[model]

    yield make
    for server, _ in made.values():
        server.shutdown()
        server.server_close()


def ask(server, method="POST", path="/answer", body=None, **headers):
    """Status and content; headers by their names with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, content, {"Content-Type": "application/json"} | named)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    kind = response.headers.get_content_type()
    return response.status, json.loads(text) if kind == "application/json" else text.decode(), response.headers


def png(pixels):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def request_of(rows):
    """Classes b, a, ü from a task's support set, and its queries."""
    pictures, labels = [png(x[0].numpy()) for x in rows.support_x[0]], rows.support_y[0].tolist()
    of_class = [[picture for picture, y in zip(pictures, labels, strict=True) if y == label] for label in range(3)]
    classes = [{"name": name, "examples": given} for name, given in zip("baü", of_class, strict=True)]
    return {"classes": classes, "queries": [png(x[0].numpy()) for x in rows.query_x[0]]}


@pytest.mark.parametrize(("model", "steps"), [("maml", 3), ("protonet", 0)])
def test_the_answer_is_the_learners(serve, model, steps):
    server, rows = serve(model)
    status, answer, _ = ask(server, body=request_of(rows))
    assert status == 200, answer
    assert answer["classes"] == ["a", "b", "ü"]
    found = np.array(answer["queries"])
    assert found.shape == (len(rows.query_x[0]), steps + 1, 3)
    learner = FewShotLearner.from_run(server._learner.run, trust=TRUST)
    learner.fit(rows.support_x[0], np.array(list("baü"))[rows.support_y[0]])
    np.testing.assert_allclose(found[:, -1], learner.predict_proba(rows.query_x[0]), atol=1e-5)
    assert len(answer["loss"]) == len(answer["accuracy"]) == steps + 1
    own = learner.score(rows.support_x[0], np.array(list("baü"))[rows.support_y[0]])
    assert answer["accuracy"][-1] == pytest.approx(own)


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(serve):
    server, _ = serve()
    status, page, headers = ask(server, "GET", "/")
    assert status == 200
    assert "Learn from a few examples" in page
    assert re.findall(r"https?://[^\"']+", page) == ["http://www.w3.org/2000/svg"]  # a name, no address
    assert not re.search(r"<(link|iframe)|\bsrc=\"|@import|url\(", page)
    assert re.findall(r'nonce="([^"]+)"', page) == [server.nonce] * 2
    assert f"script-src 'nonce-{server.nonce}'" in headers["Content-Security-Policy"]
    status, about, _ = ask(server, "GET", "/about")
    assert (status, about) == (200, {"model": "MAML", "backbone": "Conv4", "most_ways": 3, "inputs": "pictures"})
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/about"), ("POST", "/answer")])
def test_strangers_are_refused(serve, headers, method, path):
    server, _ = serve()
    status, content, _ = ask(server, method, path, body={} if method == "POST" else None, **headers)
    assert (status, content) == (403, {"error": "open the page at 127.0.0.1"})


def test_its_own_names_are_known(serve):
    server, _ = serve()
    own = f"localhost:{server.server_port}"
    assert ask(server, "GET", "/", Host=own, Origin=f"http://{own}")[0] == 200


def test_requests_that_the_page_does_not_make(serve):
    server, _ = serve()
    assert ask(server, body={}, Content_Type="text/plain")[0] == 415  # which other sites may send without asking
    assert ask(server, body=b"{")[0] == 400
    assert ask(server, body=b"[" * 100_000)[0] == 400
    assert ask(server, path="/etc/passwd")[0] == ask(server, "GET", "/../demo.py")[0] == 404
    assert ask(server, Content_Length="-1")[0] == 411
    assert ask(server, "PUT")[0] == 501


@pytest.mark.parametrize("length", [str(2**40), "9" * 5000])
def test_too_large_a_request_is_not_read(serve, length):
    server, _ = serve()
    status, content, _ = ask(server, body=b"", Content_Length=length)
    assert status == 413
    assert "more than 64 MB" in content["error"]


def without_name(request):
    request["classes"][0]["name"] = " "


def twice(request):
    request["classes"][0]["name"] = request["classes"][1]["name"]


def without_pictures(request):
    request["classes"][1]["examples"] = []


def no_image(request):
    request["queries"][1] = base64.b64encode(b"#!/bin/sh").decode()


def a_broken_one(request):
    request["classes"][2]["examples"][0] = request["classes"][2]["examples"][0][:80]


def no_base64(request):
    request["queries"] = ["?"]


def a_string_for_a_list(request):
    request["queries"] = "abcd"


def one_class_too_many(request):
    request["classes"].append({"name": "more", "examples": request["queries"][:1]})


def too_large(request):
    request["queries"] = [base64.b64encode(b"0" * 2000).decode()]


def too_many(request):
    request["queries"] *= 10


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_name, "a class has no name"),
        (twice, "two classes or more of different names"),
        (without_pictures, "and an example of each"),
        (no_image, r"query 2: an image cannot be decoded"),
        (a_broken_one, r"class ü: an image cannot be decoded"),
        (no_base64, "none that this page makes"),
        (a_string_for_a_list, "none that this page makes"),
        (one_class_too_many, "4 classes, but this MAML tells at most 3 apart"),
        (too_large, "a picture has more than"),
        (too_many, "more than 100 examples"),
    ],
)
def test_what_cannot_be_answered_is_said(serve, monkeypatch, spoil, says):
    server, rows = serve()
    monkeypatch.setattr(demo_server, "LARGEST_PICTURE", 1500)
    monkeypatch.setattr(demo_server, "MOST_EXAMPLES", 100)
    request = request_of(rows)
    spoil(request)
    status, content, _ = ask(server, body=request)
    assert status == 400
    assert re.search(says, content["error"]), content
    assert ask(server, body=request_of(rows))[0] == 200  # the next request is as if nothing had been


def test_the_command_ends_by_an_interrupt(compose_config, tmp_path, monkeypatch):
    def interrupted(server):
        raise KeyboardInterrupt

    untrained(compose_config(tmp_path))
    monkeypatch.setattr(DemoServer, "serve_forever", interrupted)
    places = (f"run={tmp_path / 'run'}", f"hydra.run.dir={tmp_path / 'log'}", "trust=[tests]")
    done = main("demo.py", *places, "port=0")
    assert done.code == 0, done.err
    assert re.search(r"Open http://127\.0\.0\.1:\d+ in a browser", done.out)
    server = DemoServer(FewShotLearner.from_run(tmp_path / "run", trust=TRUST), 0)
    done = main("demo.py", *places, f"port={server.server_port}")
    server.server_close()
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "cannot be had (Address already in use); choose another, or port=0" in done.err
