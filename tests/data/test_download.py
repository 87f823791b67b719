"""Tests of downloading, from a real server in a thread."""

import hashlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fewshot.data.files.download import download, fetch_json
from fewshot.errors import UserError
from tests.data.fakes import refusal

BODY = bytes(range(256)) * 10_000
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
REMEDY = "put it there yourself"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        answers = {
            "/whole": (200, BODY, len(BODY)),
            "/unannounced": (200, BODY, None),
            "/dropped": (200, BODY[: len(BODY) // 2], len(BODY)),
            "/miscounted": (200, BODY, "many"),
            "/empty": (200, b"", 0),
            "/record": (200, json.dumps({"files": [1]}).encode(), None),
            "/page": (200, b"<html>\nno json\n</html>", None),
            "/half-record": (200, b'{"files": [', None),
        }
        code, body, length = answers.get(self.path, (404, b"", 0))
        self.send_response(code)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def no_server():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def no_http():
    """A server that answers in another language."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("name", ["whole", "unannounced"])
def test_a_file_arrives_whole_in_a_new_folder(server, tmp_path, name):
    path = tmp_path / "new" / "folder" / "a.zip"
    download(f"{server}/{name}", path, MD5, REMEDY)
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing", "dropped", "empty", "miscounted"])
def test_what_does_not_arrive_leaves_nothing(server, tmp_path, name):
    message = refusal(download, f"{server}/{name}", tmp_path / "a.zip", MD5, REMEDY)
    assert f"{server}/{name}" in message
    assert REMEDY in message
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checksum_leaves_nothing_and_both_are_named(server, tmp_path):
    message = refusal(download, f"{server}/whole", tmp_path / "a.zip", "0" * 32, REMEDY)
    assert MD5 in message
    assert "0" * 32 in message
    assert REMEDY in message
    assert list(tmp_path.iterdir()) == []


def test_a_missing_page_is_called_so(server, tmp_path):
    assert "404" in refusal(download, f"{server}/missing", tmp_path / "a.zip", MD5, REMEDY)


@pytest.mark.parametrize("call", [fetch_json, lambda url, remedy: download(url, Path("never"), MD5, remedy)])
def test_a_missing_page_leaves_no_open_connection(server, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        call(f"{server}/missing", REMEDY)
    assert caught.value.__cause__.closed


def test_without_a_network_nothing_is_left(no_server, tmp_path):
    message = refusal(download, f"{no_server}/whole", tmp_path / "a.zip", MD5, REMEDY)
    assert "a.zip cannot be downloaded" in message
    assert REMEDY in message
    assert list(tmp_path.iterdir()) == []


def test_a_server_of_another_kind_is_refused(no_http, tmp_path):
    assert REMEDY in refusal(download, f"{no_http}/whole", tmp_path / "a.zip", MD5, REMEDY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["missing", "dropped", "whole"])
def test_an_existing_file_is_replaced_by_a_right_one_only(server, tmp_path, name):
    path = tmp_path / "a.zip"
    path.write_bytes(b"mine")
    refusal(download, f"{server}/{name}", path, "0" * 32, REMEDY)
    assert path.read_bytes() == b"mine"
    download(f"{server}/whole", path, MD5, REMEDY)
    assert path.read_bytes() == BODY


def test_a_folder_that_cannot_be_made_is_refused(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    message = refusal(download, f"{server}/whole", tmp_path / "file" / "a.zip", MD5, REMEDY)
    assert REMEDY in message
    assert (tmp_path / "file").read_text() == "no folder"


def test_json_is_read(server):
    assert fetch_json(f"{server}/record", REMEDY) == {"files": [1]}


@pytest.mark.parametrize("name", ["missing", "page", "half-record", "empty"])
def test_what_is_no_json_is_refused(server, name):
    message = refusal(fetch_json, f"{server}/{name}", REMEDY)
    assert f"{server}/{name}" in message
    assert REMEDY in message


def test_without_a_network_no_json_is_read(no_server):
    assert REMEDY in refusal(fetch_json, f"{no_server}/record", REMEDY)
