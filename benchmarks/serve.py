"""How many requests a second ``duanti serve`` answers, and how long the slowest of a hundred takes.

    python benchmarks/serve.py [--seconds S] [--bundle models/starter]

The server runs in a process of its own; this one is the client, on the same cores: so many connections, each of which
asks for one paragraph of the starter corpus, waits for the answer and asks for the next. The starter model must have
been trained (`make quickstart`). Writes benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import numpy as np

from results import write_section

CORPUS = Path(__file__).parents[1] / "data" / "starter" / "test.jsonl"
CONNECTIONS = (1, 4, 16)


@contextmanager
def serving(bundle: str) -> Iterator[tuple[str, int]]:
    """Host and port of a server that is ready, for as long as it is needed."""
    command = [sys.executable, "-m", "duanti.cli", "serve", bundle, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next((line for line in process.stderr if "http://" in line), None)
        if line is None:
            raise SystemExit(f"serve.py: {' '.join(command)} did not start. Train {bundle} first.")
        host, port = line.split("http://")[1].split()[0].split(":")
        yield host, int(port)
    finally:
        process.terminate()
        process.wait()


def requests_of(rows: Sequence[str], **question: object) -> list[bytes]:
    """A request for each paragraph."""
    bodies = [json.dumps({"text": row, **question}, ensure_ascii=False).encode() for row in rows]
    head = (
        "POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    )
    return [head.format(len(body)).encode() + body for body in bodies]


async def ask_on(place: tuple[str, int], requests: Iterator[bytes], until: float) -> list[float]:
    """Ask one after the other on one connection. Returns the seconds each took."""
    reader, writer = await asyncio.open_connection(*place)
    taken = []
    while (begin := time.perf_counter()) < until:
        writer.write(next(requests))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"serve.py: {head.decode()}")
        (length,) = (line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length))
        taken.append(time.perf_counter() - begin)
    writer.close()
    return taken


async def load(place: tuple[str, int], requests: Sequence[bytes], connections: int, seconds: float) -> list[float]:
    """Ask on so many connections for so long. Returns the seconds of every answer."""
    until, waiting = time.perf_counter() + seconds, cycle(requests)
    parts = await asyncio.gather(*(ask_on(place, waiting, until) for _ in range(connections)))
    return [each for part in parts for each in part]


def main() -> int:
    """Serve, ask, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row of the table (default: 10)")
    parser.add_argument("--bundle", default="models/starter", help="default: models/starter")
    options = parser.parse_args()
    rows = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    paragraphs = [row["text"] for row in rows if row["register"] != "headline"]
    mean = np.mean([len(paragraph) for paragraph in paragraphs])
    lines = ["| request | connections | requests/s | median | p99 |", "|---|---:|---:|---:|---:|"]
    with serving(options.bundle) as place:
        for name, question in (("topics", {}), ("topics, and each term explained", {"explain": True})):
            requests = requests_of(paragraphs, **question)
            asyncio.run(load(place, requests, 4, 1.0))  # warm
            for connections in CONNECTIONS:
                begin = time.perf_counter()
                taken = asyncio.run(load(place, requests, connections, options.seconds))
                rate = len(taken) / (time.perf_counter() - begin)
                median, p99 = 1000 * np.quantile(taken, [0.5, 0.99])
                lines.append(f"| {name} | {connections} | {rate:,.0f} | {median:.1f} ms | {p99:.1f} ms |")
    table = "\n".join(lines)
    print(table)
    told = f"Single paragraphs of {mean:.0f} characters on average; client and server share the machine's cores.\n\n"
    command = "python benchmarks/serve.py"
    write_section("The served page's API", told + table, command, ("duanti", "fastapi", "uvicorn"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
