"""The page to try a model on, and the same as an API: ``duanti serve``.

Owns HTTP, and the only imports of fastapi and uvicorn: addresses, what a request may hold and how large it may be, and
what is answered when it is wrong. Refuses to know how topics are found and how pages look. (``serving`` is the bundle
as an MLflow model; it has nothing to do with this.)

    GET  /              the page; it asks nobody but this server
    POST /api/predict   {"text": ...}: a document and its paragraphs; {"texts": [...]}: each as it stands
    GET  /healthz       200 when requests are answered
    GET  /openapi.json  the description of all this

One model serves all requests. Each is predicted in a thread of the pool; the kernels let go of the GIL.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException

from duanti import __version__
from duanti.errors import UsageError
from duanti.model import Prediction, TopicModel
from duanti.overview import view_document
from duanti.pages import try_page
from duanti.segmentation import available_cores

#: Longest document that is explained, in characters: explaining is done slowly, in Python.
EXPLAIN_UP_TO = 20_000
MAX_BYTES = 2_000_000
_MAX_LINES, _MAX_TEXTS, _MAX_TOP = 50_000, 10_000, 1_000
# A body that is too large is read on and thrown away for so long: a client that is still sending sees no answer.
_READ_WITHIN, _DRAIN_WITHIN = 60.0, 15.0

_Message = dict[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[dict[str, Any], _Receive, _Send], Awaitable[None]]


class Question(BaseModel):
    """What is asked: one of ``text`` and ``texts``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Annotated[str | None, Field(description="a document; it is split into its paragraphs")] = None
    texts: Annotated[
        list[str | None] | None, Field(description="texts, each taken as it stands", max_length=_MAX_TEXTS)
    ] = None
    context: Annotated[
        bool, Field(description="decide paragraphs in the context of the document, where the model knows how")
    ] = True
    top: Annotated[int, Field(description="topics to tell", ge=1, le=_MAX_TOP)] = 3
    explain: Annotated[
        bool, Field(description=f"tell what each term adds; for a text of up to {EXPLAIN_UP_TO:,} characters")
    ] = False

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Question:
        if (self.text is None) == (self.texts is None):
            raise ValueError("give either text, a document, or texts, a list")
        if self.explain and (self.text is None or len(self.text) > EXPLAIN_UP_TO):
            raise ValueError(f"explain is for one text of up to {EXPLAIN_UP_TO:,} characters")
        if self.text is not None and len(self.text.splitlines()) > _MAX_LINES:
            raise ValueError(f"text has more than {_MAX_LINES:,} lines; send it in parts")
        return self


class AlternativeAnswer(BaseModel):
    topic: str
    probability: float


class PredictionAnswer(BaseModel):
    topic: str | None
    probability: float | None
    alternatives: list[AlternativeAnswer]
    known_terms: int
    topics: Annotated[
        list[str] | None, Field(description="all topics of the text; only there where it may have several")
    ] = None


class TermAnswer(BaseModel):
    term: str
    kind: str
    spans: Annotated[list[tuple[int, int]], Field(description="in code points of the paragraph's text, half open")]
    contributions: dict[str, float]


class ExplanationAnswer(BaseModel):
    """For each topic that is told, the score: the bias and the contributions of all terms."""

    bias: dict[str, float]
    scores: dict[str, float]
    terms: list[TermAnswer]


class ParagraphAnswer(PredictionAnswer):
    paragraph: int
    start: Annotated[int, Field(description="offset in the document, in code points")]
    end: int
    kind: str
    text: str
    explanation: ExplanationAnswer | None = None


class SegmentAnswer(BaseModel):
    topic: str
    first: Annotated[int, Field(description="number of its first paragraph")]
    last: int
    start: int
    end: int


class DocumentAnswer(BaseModel):
    """The answer to ``text``."""

    document: str
    main_topic: str | None
    shares: Annotated[dict[str, float], Field(description="of the characters of paragraphs that have a topic")]
    segments: list[SegmentAnswer]
    paragraphs: list[ParagraphAnswer]


class TextsAnswer(BaseModel):
    """The answer to ``texts``, in their order."""

    predictions: list[PredictionAnswer]


class Fault(BaseModel):
    """What is wrong with a request, in one line."""

    error: str


_FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "not JSON"},
    413: {"model": Fault, "description": "larger than this server takes"},
    415: {"model": Fault, "description": "not sent as application/json"},
    422: {"model": Fault, "description": "JSON, but not a question"},
}


def make_app(model: TopicModel, *, max_bytes: int = MAX_BYTES) -> FastAPI:
    """Return the application for one model; a request's body may have ``max_bytes``."""
    # FastAPI's own pages of documentation come from other hosts.
    app = FastAPI(title="duanti", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(_BoundedBodies, max_bytes=max_bytes)
    app.add_exception_handler(RequestValidationError, _tell_invalid)
    app.add_exception_handler(HTTPException, _tell_refused)
    app.add_exception_handler(Exception, _tell_broken)
    # Few threads: more would only wait for each other's GIL. Two for each core, so that a long document delays nobody.
    pool = ThreadPoolExecutor(2 * available_cores(), thread_name_prefix="predict")
    name = str(model.provenance.get("name", ""))
    page = try_page(model.topics, name, knows_context=model.context is not None, explain_up_to=EXPLAIN_UP_TO)
    health = {"status": "ok", "model": name, "topics": len(model.topics), "duanti": __version__}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def show_page() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": "frame-ancestors 'none'"})

    @app.get("/healthz", summary="Tell that requests are answered")
    async def tell_health() -> dict[str, Any]:
        return health

    @app.post(
        "/api/predict",
        summary="Tell the topics of a document or of texts",
        response_model=DocumentAnswer | TextsAnswer,
        responses=_FAULTS,
    )
    async def predict(question: Question) -> Response:
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: _json(_answer(model, question)))

    return app


def serve(model: TopicModel, host: str, port: int, max_bytes: int, announce: Callable[[str], object]) -> None:
    """Answer requests until the process is told to stop; requests under way are finished first.

    ``announce`` is called with the address when everything is ready. Port 0 takes any that is free.

    Raises
    ------
    UsageError
        when nothing can listen at that address
    """
    listening = _listen(host, port)
    model.explain("段题")  # so that the first who asks waits for nothing to be compiled or loaded
    model.predict_document("段题")
    app = make_app(model, max_bytes=max_bytes)
    settings = uvicorn.Config(app, access_log=False, log_config=None, lifespan="off", timeout_graceful_shutdown=30)
    # Once it has stopped, uvicorn raises the signal again: stopping because one was told to is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    shown = f"[{host}]" if ":" in host else host
    announce(f"http://{shown}:{listening.getsockname()[1]}")
    uvicorn.Server(settings).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=512)
        # Connections inherit it. asyncio does it only for sockets it made itself; without it each answer waits 40 ms
        # for the client's delayed acknowledgement, because head and body are sent one after the other.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, OverflowError) as error:
        # Not the error's own words: those name the address once more.
        number = getattr(error, "errno", None) or 0
        why = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host}, port {port} ({why}). Choose another --host or --port.") from None


def _answer(model: TopicModel, question: Question) -> dict[str, Any]:
    if question.text is not None:
        return view_document(
            model, question.text, context=question.context, top=question.top, explain=question.explain
        ).as_dict()
    predictions = model.predict(question.texts or [], top=question.top)
    return {"predictions": [_prediction(prediction) for prediction in predictions]}


def _prediction(prediction: Prediction) -> dict[str, Any]:
    told = {**prediction._asdict(), "alternatives": [other._asdict() for other in prediction.alternatives]}
    return {name: value for name, value in told.items() if name != "topics" or value is not None}


def _json(content: Any, status: int = 200) -> Response:
    try:
        body = json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # lone surrogates: JSON can escape them, UTF-8 cannot hold them
        body = json.dumps(content).encode()
    return Response(body, status, media_type="application/json")


async def _tell_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return _json({"error": "send JSON, with Content-Type: application/json"}, 415)
    faults = [_fault(each) for each in error.errors()]
    status = 400 if any(each["type"] == "json_invalid" for each in error.errors()) else 422
    return _json({"error": "; ".join(dict.fromkeys(faults[:5]))}, status)


def _fault(error: dict[str, Any]) -> str:
    """One fault in words: where, and what; never what was sent."""
    if error["type"] == "json_invalid":
        return f"not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    place = ".".join(str(part) for part in error["loc"][1:])
    what = error["msg"].removeprefix("Value error, ")
    return f"{place[:80]}: {what}" if place else what


async def _tell_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _json({"error": str(error.detail)}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _tell_broken(request: Request, error: Exception) -> Response:
    return _json({"error": "a mistake of this server's own; its log tells more"}, 500)


class _BoundedBodies:
    """Reads each body before anything else happens, and refuses it as soon as it is too large or too slow."""

    def __init__(self, app: _Application, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(scope["headers"], receive), _READ_WITHIN)
        except _TooLargeError as error:
            why = f"a request may have {self.max_bytes:,} bytes; this one has more"
            await _refuse(413, why, send, receive if error.goes_on else None)
        except TimeoutError:
            await _refuse(408, "the request did not arrive in time", send)
        else:
            if body is not None:
                await self.app(scope, _replay(body, receive), send)

    async def _read(self, headers: Sequence[tuple[bytes, bytes]], receive: _Receive) -> bytes | None:
        """The body; None when the client has gone."""
        length = dict(headers).get(b"content-length", b"")
        if length.isdigit() and int(length) > self.max_bytes:
            raise _TooLargeError(goes_on=True)
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.max_bytes:
                raise _TooLargeError(goes_on=more)
        return bytes(body)


class _TooLargeError(Exception):
    """A body is larger than it may be; whether there is still more of it."""

    def __init__(self, *, goes_on: bool) -> None:
        super().__init__()
        self.goes_on = goes_on


def _replay(body: bytes, receive: _Receive) -> _Receive:
    """Give what was read once, then whatever comes."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> _Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


async def _refuse(status: int, why: str, send: _Send, receive: _Receive | None = None) -> None:
    """Answer at once, then let a client that still sends go on for a while: else it may never look at the answer."""
    content = json.dumps({"error": why}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    if receive is not None:
        with suppress(TimeoutError):
            await asyncio.wait_for(_drain(receive), _DRAIN_WITHIN)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: _Receive) -> None:
    message = await receive()
    while message["type"] == "http.request" and message.get("more_body", False):
        message = await receive()
