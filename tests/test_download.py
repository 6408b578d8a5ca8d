"""Downloads from a local server that misbehaves: each ends in the right file or in a clear error, never in a
wrong file in place.
"""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from hgrl.core.errors import InputError
from hgrl.data.fetching import download as module
from hgrl.data.fetching.download import download

BYTES = np.random.default_rng(0).bytes(700_001)  # three chunks
OTHER = np.random.default_rng(1).bytes(len(BYTES))
SIZE = len(BYTES)
SHA = "sha256:" + hashlib.sha256(BYTES).hexdigest()
MD5 = "md5:" + hashlib.md5(BYTES).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` at every path; the attributes say how it misbehaves. `seen` has the Range header of
    each request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = BYTES
        self.ranges, self.announces = True, True  # announces: whether, or what, the Content-Length says
        self.cuts: list[int | None] = []  # bytes after which the next connections break
        self.statuses: list[int] = []  # what the next requests get instead of the file
        self.shift = 0  # a range begins this much too late
        self.after_request = None  # called with the number of requests so far
        self.seen: list[str | None] = []

    def url(self, name="file.bin"):
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is none


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.seen.append(asked)
        if server.statuses and (status := server.statuses.pop(0)):
            self.send_error(status)
            return
        begin = 0
        if asked and server.ranges:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(server.content):
                self.send_error(416)
                return
            begin += server.shift
            self.send_response(206)
            self.send_header(
                "Content-Range", f"bytes {begin}-{len(server.content) - 1}/{len(server.content)}"
            )
        else:
            self.send_response(200)
        body = server.content[begin:]
        if server.announces:
            self.send_header(
                "Content-Length", server.announces if server.announces is not True else len(body)
            )
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(body[:cut])
        if server.after_request:
            server.after_request(len(server.seen))
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def get(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WAIT", 0.001)
    monkeypatch.setattr(module, "TRIES", 3)

    def get(addresses=None, size=SIZE, checksum=SHA):
        return download(addresses or [server.url()], tmp_path / "down/file.bin", size, checksum)

    return get


def left(tmp_path):
    return sorted(path.name for path in (tmp_path / "down").iterdir())


def fails(get, **options):
    with pytest.raises(InputError) as caught:
        get(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("checksum", [SHA, MD5])
def test_a_good_server_gives_the_file_and_nothing_else_is_left(server, get, tmp_path, checksum):
    path = get(checksum=checksum)
    assert path.read_bytes() == BYTES
    assert left(tmp_path) == ["file.bin"] and server.seen == [None]


def test_a_file_that_is_there_is_not_asked_for(server, get):
    get()
    get()
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("content", "words"), [(OTHER, "wrong bytes, by their sha256"), (BYTES[:9], "9 bytes, not 700001")]
)
def test_a_wrong_file_that_somebody_put_there_is_told_and_left(server, get, tmp_path, content, words):
    (tmp_path / "down").mkdir()
    (tmp_path / "down/file.bin").write_bytes(content)
    assert words in fails(get)
    assert server.seen == [] and (tmp_path / "down/file.bin").read_bytes() == content


def test_cut_connections_are_continued_where_they_broke(server, get):
    server.cuts = [300_000, 200_000, 1]
    assert get().read_bytes() == BYTES
    assert server.seen == [None, "bytes=300000-", "bytes=500000-", "bytes=500001-"]


def test_a_second_call_goes_on_where_the_first_gave_up(server, get, tmp_path):
    server.cuts = [300_000] + [0] * 3
    assert "broke off at 300000 of 700001 bytes, 3 times without a new byte" in fails(get)
    assert left(tmp_path) == ["file.bin.part"]
    server.seen.clear()
    assert get().read_bytes() == BYTES
    assert server.seen == ["bytes=300000-"] and left(tmp_path) == ["file.bin"]


def test_a_server_that_ignores_ranges_is_read_from_the_start(server, get):
    server.ranges, server.cuts = False, [300_000]
    assert get().read_bytes() == BYTES
    assert server.seen == [None, "bytes=300000-"]


def test_a_server_that_ignores_ranges_and_always_breaks_ends_in_an_error(server, get, tmp_path):
    server.ranges, server.cuts = False, [300_000] * 50
    assert "not downloaded" in fails(get)
    assert "file.bin" not in left(tmp_path)


def test_breaks_without_progress_come_to_an_end(server, get):
    server.ranges, server.cuts = False, [300_000, 100] * 20
    assert "times without a new byte" in fails(get)


def test_wrong_bytes_are_an_error_and_go(server, get, tmp_path):
    server.content = OTHER
    message = fails(get)
    assert "wrong bytes: sha256:" in message and f", not {SHA}" in message
    assert left(tmp_path) == []


def test_wrong_bytes_at_one_address_and_right_ones_at_the_next(server, get):
    server.content = OTHER
    server.after_request = lambda count: setattr(server, "content", BYTES)
    assert get([server.url(), server.url("mirror")]).read_bytes() == BYTES
    assert server.seen == [None, None]


def test_another_size_is_refused_before_it_is_read(server, get, tmp_path):
    server.content = BYTES + b"more"
    assert "offers 700005 bytes, not 700001" in fails(get)
    assert "file.bin" not in left(tmp_path)


@pytest.mark.parametrize("status", [404, 403, 410, 401])
def test_a_refusal_is_an_error_at_once(server, get, tmp_path, status):
    server.statuses = [status]
    assert f"{server.url()}: the server says {status}" in fails(get)
    assert server.seen == [None] and left(tmp_path) == []


def test_404_at_one_address_and_the_file_at_the_next(server, get):
    server.statuses = [404]
    assert get([server.url(), server.url("mirror")]).read_bytes() == BYTES


def test_a_busy_server_is_asked_again(server, get):
    server.statuses = [503, 500]
    assert get().read_bytes() == BYTES
    assert len(server.seen) == 3


def test_a_server_that_stays_busy_ends_in_an_error(server, get):
    server.statuses = [503] * 10
    assert "503" in fails(get) and len(server.seen) == 3


def test_nobody_there_is_an_error(server, get):
    assert "refused" in fails(get, addresses=["http://127.0.0.1:1/file.bin"])


def test_a_file_that_changes_unseen_is_caught_by_its_checksum_and_read_anew(server, get):
    server.content, server.cuts = OTHER, [300_000]
    server.after_request = lambda count: setattr(server, "content", BYTES)
    assert get().read_bytes() == BYTES
    assert server.seen == [None, "bytes=300000-", None]


def put_part(tmp_path, content):
    (tmp_path / "down").mkdir()
    (tmp_path / "down/file.bin.part").write_bytes(content)


def test_a_part_that_is_whole_needs_no_byte(server, get, tmp_path):
    put_part(tmp_path, BYTES)
    assert get().read_bytes() == BYTES
    assert server.seen == ["bytes=700001-"]  # 416


def test_a_part_longer_than_the_file_is_read_anew(server, get, tmp_path):
    put_part(tmp_path, BYTES + b"more")
    assert get().read_bytes() == BYTES
    assert server.seen == ["bytes=700005-", None]


def test_a_part_of_something_else_is_read_anew(server, get, tmp_path):
    put_part(tmp_path, OTHER[:300_000])
    assert get().read_bytes() == BYTES
    assert server.seen == ["bytes=300000-", None]


def test_a_whole_part_of_wrong_bytes_is_read_anew(server, get, tmp_path):
    put_part(tmp_path, OTHER)
    assert get().read_bytes() == BYTES


def test_a_server_that_sends_another_range_than_asked_for(server, get):
    server.cuts, server.shift = [300_000], 7
    assert get().read_bytes() == BYTES
    assert server.seen == [None, "bytes=300000-", None]


def test_a_server_that_announces_no_size(server, get):
    server.announces, server.cuts = False, [300_000]
    assert get().read_bytes() == BYTES


@pytest.mark.parametrize("length", ["abc", "-5", "1e6", "\u00b2", "9" * 5000])
def test_an_announced_size_that_is_no_number(server, get, length):
    server.announces, server.cuts = length, [300_000]
    assert get().read_bytes() == BYTES
    assert server.seen == [None, "bytes=300000-"]


@pytest.mark.parametrize("state", [b"", b"{", b"[1]", b"\xff\xfe", b'{"address": 1, "version": "a\\nb"}'])
def test_a_damaged_state_file_of_an_older_version_is_not_read(server, get, tmp_path, state):
    put_part(tmp_path, BYTES[:300_000])
    (tmp_path / "down/file.bin.part.json").write_bytes(state)
    assert get().read_bytes() == BYTES


def test_a_cut_that_looks_like_an_end_is_caught_by_the_checksum(server, get, tmp_path):
    server.announces, server.cuts = False, [300_000] * 9
    assert "wrong bytes" in fails(get, size=None)
    assert left(tmp_path) == []


def test_a_connection_that_hangs_is_broken_off_and_continued(server, get, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    waiting = threading.Event()
    server.cuts = [300_000]
    server.after_request = lambda count: waiting.wait(2) if count == 1 else waiting.set()
    assert get().read_bytes() == BYTES
    assert server.seen == [None, "bytes=300000-"]


def test_a_folder_that_cannot_be_written_is_one_line(get, tmp_path):
    (tmp_path / "down").write_text("a file")
    assert "cannot be written" in fails(get)
