"""jieba's dictionary and the normalisation table: what the text path knows about Chinese.

Owns the only import of jieba: private tokenizers (dictionary, user words by jieba's rules) that never touch
jieba's process-wide state nor its cache file, and the table that maps each code point to its NFKC form.
Refuses to know what a corpus, a term or a model is.
"""

from __future__ import annotations

import hashlib
import unicodedata
import warnings
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    # jieba 0.42.1 has invalid escape sequences and imports pkg_resources where that exists.
    warnings.simplefilter("ignore")
    import jieba
    import jieba.finalseg

# Marks that are drawn with no width: they change no word, and pages are full of them.
ZERO_WIDTH = frozenset(
    chr(c) for c in (0x00AD, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF)
)


class _NormalizationTable(dict[int, str]):
    """Code point -> its NFKC form, worked out on first need; zero-width marks map to nothing."""

    def __missing__(self, code_point: int) -> str:
        character = chr(code_point)
        form = "" if character in ZERO_WIDTH else unicodedata.normalize("NFKC", character)
        self[code_point] = form
        return form


_TABLE = _NormalizationTable()


def normalize(text: str) -> str:
    """Return ``text`` with each code point replaced by its NFKC form, zero-width marks removed.

    Code points are mapped one by one (no composition across them), so that a position in the original can
    always be told.

    >>> normalize("ＧＤＰ增长５％")
    'GDP增长5%'
    """
    return text.translate(_TABLE)


@lru_cache(maxsize=1)
def _dictionary() -> tuple[dict[str, int], int]:
    """Word frequencies with all prefixes, and their total, straight from jieba's ``dict.txt`` (0.7 s)."""
    reader = jieba.Tokenizer()
    frequencies, total = reader.gen_pfdict(reader.get_dict_file())
    return frequencies, total


@lru_cache(maxsize=8)
def tokenizer(user_words: tuple[str, ...] = ()) -> Any:
    """Return a jieba tokenizer of our own with ``user_words`` added by ``jieba.add_word``'s rules."""
    own = jieba.Tokenizer()
    frequencies, own.total = _dictionary()
    own.FREQ = dict(frequencies) if user_words else frequencies
    own.initialized = True
    for word in user_words:
        own.add_word(word)
    return own


@lru_cache(maxsize=1)
def digest() -> str:
    """SHA-256 of what decides jieba's words: its dictionary and its HMM tables."""
    folder = Path(jieba.__file__).parent
    sources: Iterable[Path] = [folder / "dict.txt", *sorted((folder / "finalseg").glob("prob_*.py"))]
    state = hashlib.sha256()
    for source in sources:
        state.update(hashlib.sha256(source.read_bytes()).digest())
    return state.hexdigest()


def version() -> str:
    """jieba's version."""
    return str(jieba.__version__)
