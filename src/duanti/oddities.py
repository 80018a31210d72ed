"""What is odd about a text, by itself or among others.

Owns the marks that broken encodings leave, texts with hardly a word, and lengths far from the rest. Refuses to know
topics, files and models, and to mend anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

#: Every kind of oddity, and what it means.
ODDITIES = {
    "replacement_character": "U+FFFD stands where bytes could not be decoded",
    "mojibake": "bytes of one encoding were read in another",
    "private_use": "private use characters, which have no meaning of their own",
    "control_character": "control characters, which are no text",
    "markup": "tags or entities of HTML",
    "no_han": "no Chinese character",
    "mostly_signs": "fewer than a third of the characters are letters",
    "repeated_lines": "at least half of the lines repeat others",
    "very_short": "far shorter than the rest",
    "very_long": "far longer than the rest",
}

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_PRIVATE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]")
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|&(?:[a-z]{2,8}|#[0-9]{1,6});")
_HAN = re.compile("[㐀-鿿豈-﫿\U00020000-\U000323af]")
_LETTER = re.compile(r"[^\W\d_]")
_SPACE = re.compile(r"\s")
# What the encodings' own marks for "no character" become in GBK: U+FFFD twice, and memory that was never written.
_KNOWN_MOJIBAKE = re.compile("锟斤拷|烫烫烫|屯屯屯")
# A lead byte of UTF-8 and those that follow it, as Windows-1252 or Latin-1 show them.
_UTF8_AS_LATIN = re.compile("[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]+")
_GBK_AS_LATIN = re.compile("[\u00a1-\u00fe]{4,}")
_NOT_ASCII = re.compile("[^\x00-\x7f\ufffd]{3,}")
_FENCE = 3.0  # spreads beyond the quartiles (Tukey 1977: "far out")
_RARE = 0.5  # percent at either end: where headlines stand beside paragraphs, neither are odd
_LEAST_SPREAD = np.log(1.5)  # lengths that hardly differ make no text of half as much odd


def find_oddities(texts: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yield (text, kind, detail) for everything odd, text by text.

    A length is odd when it is rare and, in logarithms, three interquartile ranges beyond the quartiles.
    """
    lengths = np.log([max(len(text), 1) for text in texts])
    shortest, low, high, longest = np.percentile(lengths, (_RARE, 25, 75, 100 - _RARE))
    spread = _FENCE * max(high - low, _LEAST_SPREAD)
    shortest, longest = min(shortest, low - spread), max(longest, high + spread)
    for row, text in enumerate(texts):
        for kind, detail in describe(text):
            yield row, kind, detail
        if lengths[row] < shortest or lengths[row] > longest:
            yield row, "very_short" if lengths[row] < shortest else "very_long", f"{len(text):,} characters"


def describe(text: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, detail) for what is odd about one text, whatever the others are."""
    if "\ufffd" in text:
        yield "replacement_character", f"{text.count(chr(0xFFFD)):,} of them"
    was = _garbled(text)
    if was:
        yield "mojibake", was
    for kind, pattern in (("private_use", _PRIVATE), ("control_character", _CONTROL)):
        found = pattern.search(text)
        if found:
            yield kind, f"U+{ord(found.group()):04X}"
    tag = _MARKUP.search(text)
    if tag:
        yield "markup", tag.group()
    if not _HAN.search(text):
        yield "no_han", ""
    letters, characters = len(_LETTER.findall(text)), len(text) - len(_SPACE.findall(text))
    if 3 * letters < characters:
        yield "mostly_signs", f"{letters:,} letters of {characters:,} characters"
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if len(lines) >= 3 and 2 * len(set(lines)) <= len(lines):
        yield "repeated_lines", f"{len(set(lines)):,} different lines of {len(lines):,}"


def _garbled(text: str) -> str:
    """What proves that a text was read in the wrong encoding, and what it may have been; empty when nothing does."""
    known = _KNOWN_MOJIBAKE.search(text)
    if known:
        return known.group()
    if not text.isascii():
        for run in _UTF8_AS_LATIN.findall(text):
            for encoding in ("cp1252", "latin-1"):
                with suppress(UnicodeError):
                    return f"{run[:20]} may be {run.encode(encoding).decode()[:20]}"
        for run in _GBK_AS_LATIN.findall(text):
            with suppress(UnicodeError):
                was = run.encode("latin-1").decode("gbk")
                # A row of one sign, such as ××××, is a row of one sign.
                if len(set(was)) > 1 and len(_HAN.findall(was)) == len(was):
                    return f"{run[:20]} may be {was[:20]}"
        for run in _NOT_ASCII.findall(text):
            with suppress(UnicodeError):
                was = run.encode("gb18030").decode("utf-8", "replace")
                n_han = len(_HAN.findall(was))
                # Chinese that was read rightly makes hardly any valid UTF-8 of its GBK bytes.
                if n_han >= 2 and n_han >= 0.6 * len(was):
                    return f"{run[:20]} may be {was[:20]}"
    return ""
