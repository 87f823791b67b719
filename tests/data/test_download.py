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
asked: list[tuple[str, int]] = []
"""Of each request: the page, and the byte from which on it was asked for."""


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        begun = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        asked.append((self.path, begun))
        answers = {
            "/whole": (200, BODY, len(BODY)),
            "/unannounced": (200, BODY, None),
            "/dropped": (200, BODY[: len(BODY) // 2], len(BODY)),
            "/miscounted": (200, BODY, "many"),
            "/empty": (200, b"", 0),
            "/moved": (302, b"", 0),
            "/record": (200, json.dumps({"files": [1]}).encode(), None),
            "/page": (200, b"<html>\nno json\n</html>", None),
            "/whole-page": (200, b"<html>\nno json\n</html>", 22),
            "/half-record": (200, b'{"files": [', None),
        }
        code, body, length = answers.get(self.path, (404, b"", 0))
        if self.path == "/resumable":
            code, body, length = (206 if begun else 200), BODY[begun:], len(BODY) - begun
            code = 416 if begun >= len(BODY) else code
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/resumable")
        if code == 206:
            self.send_header("Content-Range", f"bytes {begun}-{len(BODY) - 1}/{len(BODY)}")
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


def test_a_download_goes_on_where_it_was_interrupted(server, tmp_path):
    path, half = tmp_path / "a.zip", len(BODY) // 2
    refused = refusal(download, f"{server}/dropped", path, MD5, REMEDY)
    assert f"the connection ended after {half} of {len(BODY)} bytes" in refused
    asked.clear()
    download(f"{server}/resumable", path, MD5, REMEDY)
    assert asked == [("/resumable", half)]
    assert path.read_bytes() == BODY
    assert list(tmp_path.iterdir()) == [path]


def test_an_address_that_moved_is_followed_from_where_the_download_was_interrupted(server, tmp_path):
    (tmp_path / ".a.zip.part").write_bytes(BODY[:100])
    asked.clear()
    download(f"{server}/moved", tmp_path / "a.zip", MD5, REMEDY)
    assert asked == [("/moved", 100), ("/resumable", 100)]
    assert (tmp_path / "a.zip").read_bytes() == BODY


@pytest.mark.parametrize("name", ["whole", "resumable"])
@pytest.mark.parametrize("part", [b"other bytes", BODY, BODY + b"more"])
def test_what_has_arrived_is_not_believed(server, tmp_path, name, part):
    """A server that cannot go on sends all of it; bytes of another file show in the digest and are not gone on from again."""
    (tmp_path / ".a.zip.part").write_bytes(part)
    if name == "resumable" and part == b"other bytes":
        assert "instead of" in refusal(download, f"{server}/{name}", tmp_path / "a.zip", MD5, REMEDY)
    download(f"{server}/{name}", tmp_path / "a.zip", MD5, REMEDY)
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_mirrors_are_tried_in_order_and_go_on_from_each_other(server, no_server, tmp_path):
    asked.clear()
    mirrors = [f"{no_server}/whole", f"{server}/missing", f"{server}/dropped", f"{server}/resumable", f"{server}/whole"]
    download(mirrors, tmp_path / "a.zip", None, REMEDY, sha256=hashlib.sha256(BODY).hexdigest(), size=len(BODY))
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert asked == [("/missing", 0), ("/dropped", 0), ("/resumable", len(BODY) // 2)]


def test_a_wrong_size_is_refused_and_every_mirror_named(server, tmp_path):
    message = refusal(download, [f"{server}/whole", f"{server}/missing"], tmp_path / "a", None, REMEDY, size=7)
    assert f"{server}/whole (it has {len(BODY)} bytes there instead of 7), nor from {server}/missing" in message
    assert "it arrived with 2560000 bytes instead of 7" in refusal(
        download, f"{server}/unannounced", tmp_path / "a", None, REMEDY, size=7
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["page", "dropped", "whole-page"])
@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_mirror_that_sends_something_else_does_not_take_away_what_has_arrived(server, tmp_path, name, size):
    begun = len(BODY) * 3 // 4
    (tmp_path / ".a.zip.part").write_bytes(BODY[:begun])
    (tmp_path / ".a.zip.part-anew").write_bytes(BODY[:7])  # left by a kill
    asked.clear()
    download([f"{server}/{name}", f"{server}/resumable"], tmp_path / "a.zip", MD5, REMEDY, size=size)
    assert asked == [(f"/{name}", begun), ("/resumable", begun)]
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_of_two_parts_the_longer_is_gone_on_from(server, tmp_path):
    (tmp_path / ".a.zip.part").write_bytes(BODY[:100])
    refusal(download, f"{server}/dropped", tmp_path / "a.zip", MD5, REMEDY)
    assert (tmp_path / ".a.zip.part").read_bytes() == BODY[: len(BODY) // 2]
    assert [path.name for path in tmp_path.iterdir()] == [".a.zip.part"]


def test_a_part_that_is_whole_is_not_downloaded_anew(server, tmp_path):
    (tmp_path / ".a.zip.part").write_bytes(BODY)
    asked.clear()
    download(f"{server}/resumable", tmp_path / "a.zip", MD5, REMEDY)
    assert asked == [("/resumable", len(BODY))]
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_without_size_and_digest_nothing_is_gone_on_from(server, tmp_path):
    refusal(download, f"{server}/dropped", tmp_path / "a.gz", None, REMEDY)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".a.gz.part").write_bytes(b"left by a kill")
    download(f"{server}/resumable", tmp_path / "a.gz", None, REMEDY)
    assert (tmp_path / "a.gz").read_bytes() == BODY


@pytest.mark.parametrize("name", ["missing", "empty", "miscounted"])
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


def test_a_failure_leaves_no_new_folder_and_every_old_one(no_server, tmp_path):
    """An empty folder of a dataset would hide the data elsewhere."""
    (tmp_path / "old").mkdir()
    for folder in ("new/data/dtd", "old"):
        refusal(download, f"{no_server}/whole", tmp_path / folder / "a.zip", MD5, REMEDY)
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]


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
