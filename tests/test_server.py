"""``duanti serve``: what it answers, what it refuses, and that nothing sent to it does harm."""

import json
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from duanti import TopicModel
from duanti.cli import main
from duanti.overview import view_document

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from duanti.server import EXPLAIN_UP_TO, make_app

if TYPE_CHECKING:
    from browser import Browser

ARTICLE = "股市大涨，基金收益上升\n球队赢了比赛\n学校开学\n责任编辑：张三\n"
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def client(small_model: TopicModel) -> TestClient:
    return TestClient(make_app(small_model, max_bytes=100_000), raise_server_exceptions=False)


def ask(client: TestClient, question: Any) -> Any:
    answer = client.post("/api/predict", json=question)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_document_is_answered_with_what_the_model_says(client: TestClient, small_model: TopicModel) -> None:
    for context in (True, False):
        expected = view_document(small_model, ARTICLE, context=context, top=2, explain=True).as_dict()
        told = ask(client, {"text": ARTICLE, "context": context, "top": 2, "explain": True})
        assert told == json.loads(json.dumps(expected))
    assert [part["topic"] for part in told["paragraphs"]] == ["财经", "体育", "教育", None]
    assert told["main_topic"] == "财经"
    assert [segment["topic"] for segment in told["segments"]] == ["财经", "体育", "教育"]
    assert "explanation" not in ask(client, {"text": ARTICLE})["paragraphs"][0]


def test_texts_are_answered_in_their_order_as_they_stand(client: TestClient, small_model: TopicModel) -> None:
    texts = ["股市大涨\n球队", None, "", "学校"]
    told = ask(client, {"texts": texts, "top": 1})["predictions"]
    assert [each["topic"] for each in told] == [p.topic for p in small_model.predict(texts)]
    assert [each["alternatives"] for each in told] == [[], [], [], []]


def test_what_utf8_cannot_hold_is_answered_too(client: TestClient) -> None:
    answer = client.post("/api/predict", content=b'{"text": "\\ud800"}', headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["paragraphs"][0]["text"] == "\ud800"
    assert "股市" in client.post("/api/predict", json={"text": "股市"}).text


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 422, "Field required"),
        (b"{", 400, "not JSON: "),
        (b"\xff\xfe", 400, ""),
        (b"[" * 50_000, 400, ""),
        (b"9" * 50_000, 400, ""),
        (b"[]", 422, "dictionary"),
        (b"null", 422, "dictionary"),
        (b"{}", 422, "give either text, a document, or texts, a list"),
        (b'{"text": "a", "texts": []}', 422, "give either text"),
        (b'{"text": 5}', 422, "text: Input should be a valid string"),
        (b'{"texts": "a"}', 422, "texts: Input should be a valid list"),
        (b'{"texts": [1]}', 422, "texts.0: Input should be a valid string"),
        (b'{"text": "a", "context": "yes"}', 422, "context: Input should be a valid boolean"),
        (b'{"text": "a", "top": 0}', 422, "top: Input should be greater than or equal to 1"),
        (b'{"text": "a", "top": NaN}', 422, "top: "),
        (b'{"text": "a", "nope": 1}', 422, "nope: Extra inputs are not permitted"),
        (b'{"text": "' + b"a\\n" * 50_001 + b'"}', 413, "a request may have 100,000 bytes"),
        (b'{"text": "' + b"\\n" * 49_990 + b'"}', 200, ""),
        (json.dumps({"text": "a" * (EXPLAIN_UP_TO + 1), "explain": True}).encode(), 422, "up to 20,000 characters"),
        (b'{"texts": ["a"], "explain": true}', 422, "explain is for one text"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(client: TestClient, body: bytes, status: int, message: str) -> None:
    answer = client.post("/api/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    if status != 200:
        assert list(answer.json()) == ["error"]
        assert message in answer.json()["error"]
        assert "\n" not in answer.json()["error"]


def test_other_ways_to_be_wrong(client: TestClient) -> None:
    answer = client.post("/api/predict", content=b'{"text": "a"}', headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["error"]) == (415, "send JSON, with Content-Type: application/json")
    assert client.get("/nowhere").status_code == 404
    assert client.get("/nowhere").json() == {"error": "Not Found"}
    assert client.get("/api/predict").status_code == 405
    for path in ("/docs", "/redoc"):  # FastAPI's own, which load from other hosts
        assert client.get(path).status_code == 404


def test_a_mistake_of_our_own_is_json_too(small_model: TopicModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("duanti.server.view_document", fail)
    answer = TestClient(make_app(small_model), raise_server_exceptions=False).post("/api/predict", json={"text": "a"})
    assert answer.status_code == 500
    assert "secret" not in answer.json()["error"]


def test_a_body_may_have_so_many_bytes_and_not_one_more(client: TestClient) -> None:
    frame = len(json.dumps({"text": ""}))
    for more, status in ((0, 200), (1, 413)):
        body = json.dumps({"text": "a" * (100_000 - frame + more)}).encode()
        headers = {"Content-Type": "application/json"}
        assert client.post("/api/predict", content=body, headers=headers).status_code == status
        pieces = (body[place : place + 10_000] for place in range(0, len(body), 10_000))  # without Content-Length
        assert client.post("/api/predict", content=pieces, headers=headers).status_code == status


def test_the_description_names_every_field_and_fault(client: TestClient) -> None:
    told = client.get("/openapi.json").json()
    operation = told["paths"]["/api/predict"]["post"]
    assert set(operation["responses"]) == {"200", "400", "413", "415", "422"}
    schemas = told["components"]["schemas"]
    assert set(schemas["Question"]["properties"]) == {"text", "texts", "context", "top", "explain"}
    answer = ask(client, {"text": ARTICLE, "explain": True})
    assert set(schemas["DocumentAnswer"]["properties"]) == set(answer)
    of_sets = {"topics"}  # only where a text may have several
    assert set(schemas["ParagraphAnswer"]["properties"]) == set(answer["paragraphs"][0]) | of_sets
    assert set(schemas["SegmentAnswer"]["properties"]) == set(answer["segments"][0])
    explanation = answer["paragraphs"][0]["explanation"]
    assert set(schemas["ExplanationAnswer"]["properties"]) == set(explanation)
    assert set(schemas["TermAnswer"]["properties"]) == set(explanation["terms"][0])
    prediction = ask(client, {"texts": ["a"]})["predictions"][0]
    assert set(schemas["PredictionAnswer"]["properties"]) == set(prediction) | of_sets


def test_many_at_once_share_one_model(client: TestClient) -> None:
    expected = ask(client, {"text": ARTICLE})
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: ask(client, {"text": ARTICLE}), range(64))) == [expected] * 64


class Server:
    """``duanti serve`` in a process of its own."""

    def __init__(self, bundle: str, *options: str) -> None:
        command = [sys.executable, "-m", "duanti.cli", "serve", bundle, "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        while line and "http://" not in line:  # "compiling kernels"
            line = self.process.stderr.readline()
        assert "model small, 3 topics; Ctrl-C stops it" in line
        self.address = line.split()[1]
        host, port = self.address.removeprefix("http://").split(":")
        self.place = (host, int(port))

    def post(self, body: bytes) -> tuple[int, Any]:
        request = urllib.request.Request(f"{self.address}/api/predict", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def send(self, data: bytes) -> bytes:
        """Send raw bytes and return what comes back; say that there is no more, unless the request itself does."""
        with socket.create_connection(self.place, timeout=30) as connection:
            with suppress(OSError):  # it may have hung up on us already
                connection.sendall(data)
                if b"Connection: close" not in data:
                    connection.shutdown(socket.SHUT_WR)
            received = b""
            with suppress(OSError):
                while piece := connection.recv(65536):
                    received += piece
            return received

    def peak_memory(self) -> int:
        """Kilobytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def bundle(small_model: TopicModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("served") / "small"
    small_model.save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def server(bundle: str) -> Iterator[Server]:
    running = Server(bundle)
    yield running
    assert running.stop(signal.SIGTERM) == 0


def test_it_answers_and_tells_its_health(server: Server) -> None:
    with urllib.request.urlopen(f"{server.address}/healthz", timeout=30) as answer:
        assert json.load(answer)["status"] == "ok"
    status, told = server.post(json.dumps({"text": ARTICLE}).encode())
    assert (status, told["main_topic"]) == (200, "财经")


_TYPE = b"POST /api/predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


def malformed(number: int) -> bytes:
    """Something no client should send; another one for each number."""
    chance = random.Random(number)
    noise = chance.randbytes(chance.randrange(1, 300))
    kinds = [
        noise,
        b"GET " + noise.replace(b"\n", b"") + b" HTTP/1.1\r\n\r\n",
        _TYPE + b"Content-Length: %d\r\n\r\n" % len(noise) + noise,
        _TYPE + b"Content-Length: 99999\r\n\r\n" + noise,
        _TYPE + b"Content-Length: -1\r\n\r\n" + noise,
        _TYPE + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n" + noise,
        _TYPE + b"Transfer-Encoding: chunked\r\n\r\n" + noise,
        _TYPE + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + noise,
        _TYPE + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        _TYPE + b"Content-Length: 1000000000000\r\n\r\n" + noise,
        b"POST /api/predict HTTP/1.1\r\nContent-Length: 12\r\n\r\n" + b'{"text":"a"}',
        b"BREW / HTTP/9.9\r\n\r\n",
        _TYPE[: chance.randrange(1, len(_TYPE))],
    ]
    json_kinds = [b"[" * chance.randrange(1, 5000), b'{"text":' * 500, b'{"top": 1e999}', b'"' + noise]
    body = chance.choice(json_kinds)
    complete = _TYPE + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    return chance.choice([*kinds, complete, complete.replace(b"json", b"xml"), complete.replace(b"POST", b"PUT")])


def test_a_thousand_malformed_requests_do_no_harm(server: Server) -> None:
    before = server.post(json.dumps({"text": ARTICLE}).encode())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: server.send(malformed(number)), range(1000)))
    statuses = {answer.split(b" ", 2)[1] for answer in answers if answer}
    assert statuses <= {b"400", b"404", b"405", b"408", b"413", b"415", b"422", b"431"}
    assert {b"400", b"405", b"415", b"422"} <= statuses
    assert server.post(json.dumps({"text": ARTICLE}).encode()) == before


def test_fifty_megabytes_are_refused_without_being_kept(server: Server) -> None:
    server.post(json.dumps({"text": "股市大涨" * 50_000}).encode())
    before = server.peak_memory()
    status, told = server.post(b'{"text": "' + b"a" * 50_000_000 + b'"}')
    assert (status, told) == (413, {"error": "a request may have 2,000,000 bytes; this one has more"})
    chunks = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    answer = server.send(
        _TYPE + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks * 763 + b"0\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert server.peak_memory() - before < 20_000


def test_it_stops_when_told_to_and_finishes_what_is_under_way(bundle: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        running = Server(bundle)
        body = json.dumps({"text": "股市大涨，基金收益上升，球队赢了比赛。\n" * 1000, "explain": True}).encode()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(running.post, body)
            time.sleep(0.1)
            assert running.stop(number) == 0
            assert answer.result()[0] == 200
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(running.place, timeout=5)


def test_an_address_that_is_taken_is_told_in_one_line(
    bundle: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", bundle, "--port", str(server.place[1])]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"duanti: cannot listen on 127.0.0.1, port {server.place[1]} (Address already in use). "
        "Choose another --host or --port.\n"
    )
    assert main(["serve", bundle, "--port", "99999"]) == 2
    assert main(["serve", bundle, "--host", "no such host"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert main(["serve", f"{bundle}-none"]) == 1


def test_without_its_libraries_it_says_what_to_install(bundle: str) -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['fastapi', 'uvicorn', 'jinja2']))\n"
        "from duanti.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, "serve", bundle], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "duanti: duanti serve needs FastAPI. Install duanti[serve].\n")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from browser import Browser

    with Browser() as opened:
        yield opened


def test_an_article_is_pasted_and_shows_its_topics(server: Server, browser: "Browser") -> None:
    browser.open(server.address)
    browser.one("#text").send_keys(f"股市大涨\n球队赢了比赛{HOSTILE}\n学校开学")
    browser.one("button[type=submit]").click()
    browser.wait(".paragraph")
    assert [name.text for name in browser.find(".chip.told .name")] == ["财经", "体育", "教育"]
    assert HOSTILE in browser.find(".words")[1].text
    assert [entry.text for entry in browser.find(".segments a")] == ["财经", "体育", "教育"]
    assert browser.find("img") == []
    assert "taken" not in browser.driver.title
    assert browser.complaints() == []
    assert browser.asked() == {server.address}


def test_a_file_is_opened_whatever_its_encoding(server: Server, browser: "Browser", tmp_path: Path) -> None:
    for encoding in ("utf-8", "gb18030"):
        (tmp_path / "news.txt").write_bytes("球队赢了比赛".encode(encoding))
        browser.open(server.address)
        browser.one("#file").send_keys(str(tmp_path / "news.txt"))
        browser.wait(".paragraph")
        assert browser.one(".chip.told .name").text == "体育"
    (tmp_path / "news.txt").write_bytes(b"\xff\xff\xff")
    browser.open(server.address)
    browser.one("#file").send_keys(str(tmp_path / "news.txt"))
    browser.wait("#status.failed")
    assert browser.complaints() == []


def test_the_json_is_downloaded(server: Server, browser: "Browser", tmp_path: Path) -> None:
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    browser.open(server.address)
    browser.one("#text").send_keys("股市大涨")
    browser.one("button[type=submit]").click()
    browser.wait("#download").click()
    saved = tmp_path / "topics.json"
    for _ in range(400):
        if saved.exists() and saved.stat().st_size:  # the browser makes an empty one first, to keep its name
            break
        time.sleep(0.05)
    assert json.loads(saved.read_text(encoding="utf-8"))["main_topic"] == "财经"
    assert browser.complaints() == []


def test_what_goes_wrong_is_told_on_the_page(bundle: str, browser: "Browser") -> None:
    running = Server(bundle, "--max-bytes", "1000")
    browser.open(running.address)
    browser.one("button[type=submit]").click()
    browser.wait("#status.failed")
    browser.run("document.getElementById('text').value = 'a'.repeat(2000)")
    browser.one("button[type=submit]").click()
    browser.wait("#status.failed")
    assert "too large" in browser.one("#status").text
    assert running.stop(signal.SIGTERM) == 0
    browser.run("document.getElementById('text').value = '股市'")
    browser.one("button[type=submit]").click()
    time.sleep(0.5)
    assert "answer" in browser.one("#status").text
