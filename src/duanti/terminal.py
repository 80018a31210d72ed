"""An explained paragraph on a terminal: its text coloured, and the terms that say most.

Owns what it looks like there. Refuses to know how contributions come about.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from duanti.explanation import Explanation, TermContribution
from duanti.features import label_of
from duanti.overview import LabelledParagraph, Overview

# From weak to strong. Background and foreground together, so that it can be read on dark and on light.
_FOR = ("on #e3f4e1", "on #b7e3b1", "on #7fcb76")
_AGAINST = ("on #fbe3e0", "on #f5bdb7", "on #ec8f87")


def draw_overview(overview: Overview, n_terms: int) -> RenderableType:
    """Draw every paragraph of a document with up to ``n_terms`` terms for its topic, and as many against."""
    return Group(*(draw_paragraph(overview.document, part, n_terms) for part in overview.paragraphs))


def draw_paragraph(document: str, part: LabelledParagraph, n_terms: int) -> RenderableType:
    """Draw a heading with the topics, the text shaded for and against the topic, and the strongest terms."""
    lines = [Text(f"{document}  ¶{part.paragraph}  {part.kind}  ", style="dim").append_text(_topics(part))]
    if part.explanation is None or not part.topics:
        return Group(*lines, Text(part.text), Text())
    topic = part.topics[0]
    lines.append(_shaded(part.text, part.explanation.characters(topic)))
    for name, against in ((f"for {topic}", False), (f"against {topic}", True)):
        terms = part.explanation.strongest(topic, n_terms, against=against)
        if terms:
            lines.append(_terms(name, terms, part.explanation.topics.index(topic)))
    lines.append(_sum(part, part.explanation, topic))
    return Group(*lines, Text())


def _topics(part: LabelledParagraph) -> Text:
    topic, probability, others, _, topics = part.prediction
    if topic is None:
        return Text("no topic", style="not dim")
    told = Text(f"{topic} {probability:.2f}", style="not dim bold")
    for other in others:
        style = "bold" if topics and other.topic in topics else "not bold"
        told.append(f"  {other.topic} {other.probability:.2f}", style=style)
    return told


def _shaded(text: str, shares: NDArray[np.float64]) -> Text:
    """The text, each character by its share of the largest."""
    shaded = Text(text)
    levels = np.rint(3 * shares / max(np.abs(shares).max(initial=0.0), 1e-300)).astype(int)
    for place in np.flatnonzero(levels).tolist():
        level = int(levels[place])
        shade = (_FOR if level > 0 else _AGAINST)[abs(level) - 1]
        shaded.stylize(f"black {shade}", place, place + 1)
    return shaded


def _terms(name: str, terms: Iterable[TermContribution], column: int) -> Text:
    told = Text(f"{name}: ", style="dim")
    for term in terms:
        # Characters in brackets, words as they are: "教育" may be one of each. What begins the text after ^.
        shown = label_of(term.kind, f"[{term.term}]" if term.kind.endswith("character") else term.term)
        shown = shown.replace("\n", "↵")
        told.append(f"{shown} ", style="not dim").append(f"{term.contributions[column]:+.3f}  ")
    return told


def _sum(part: LabelledParagraph, explanation: Explanation, topic: str) -> Text:
    """The score, and whether it is the context that decides."""
    scores = explanation.scores
    column = explanation.topics.index(topic)
    told = Text(f"score {scores[column]:+.3f}, of which bias {explanation.bias[column]:+.3f}", style="dim")
    own = explanation.topics[int(scores.argmax())]
    if own != topic and part.prediction.topic == topic and part.prediction.topics is None:
        told.append(f"; by itself it would be {own}: the document around it decides")
    return told
