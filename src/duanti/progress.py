"""How far a job is: a bar on a terminal, lines elsewhere.

Owns what is shown while a job runs. Refuses to know what is done. Everything goes to stderr.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 60.0


class Progress:
    """Counts rows and bytes, and says so now and then. ``n_bytes``: all there are, None when nobody knows."""

    def __init__(self, n_bytes: int | None) -> None:
        self.n_bytes = n_bytes
        self.rows = self.done = 0
        self._begin = self._last = time.monotonic()

    def advance(self, rows: int, n_bytes: int) -> None:
        """So many more rows and bytes are done."""
        self.rows += rows
        self.done += n_bytes
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            logger.info("%s", self.describe())

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begin

    def describe(self) -> str:
        """Rows, rows a second, bytes, share done, time left."""
        said = f"{self.rows:,} rows, {self.rows / max(self.seconds, 1e-9):,.0f} rows/s, {self.done / 1e6:,.0f} MB"
        if self.n_bytes and self.done:
            share = min(self.done / self.n_bytes, 1.0)
            said += f", {share:.0%} done, {_clock(self.seconds * (1 - share) / share)} left"
        return said


class _Bar(Progress):
    """The same, drawn."""

    def __init__(self, n_bytes: int | None, bar: Any) -> None:
        super().__init__(n_bytes)
        self._bar = bar
        self._task = bar.add_task("", total=n_bytes, said="")

    def advance(self, rows: int, n_bytes: int) -> None:
        """So many more rows and bytes are done."""
        self.rows += rows
        self.done += n_bytes
        self._bar.update(self._task, completed=self.done if self.n_bytes else None, said=self.describe())


@contextmanager
def showing(n_bytes: int | None) -> Iterator[Progress]:
    """Progress that is shown while the block runs."""
    if not sys.stderr.isatty():
        logger.setLevel(logging.INFO)
        yield Progress(n_bytes)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(BarColumn(), TextColumn("{task.fields[said]}"), console=Console(stderr=True), transient=True) as bar:
        yield _Bar(n_bytes, bar)


@contextmanager
def counting() -> Iterator[Callable[[float, str], object]]:
    """Show steps of a job while the block runs: call what is given with the share done (0..1) and what to say of it."""
    if not sys.stderr.isatty():
        logger.setLevel(logging.INFO)
        yield lambda share, said: logger.info("%s", said)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.fields[said]}", markup=False))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0, said="counting terms")
        yield lambda share, said: bar.update(task, completed=share, said=said)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
