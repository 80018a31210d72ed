"""jieba's dictionary, its hidden Markov model and the normalisation table, as arrays.

Owns the only import of jieba and what is compiled from it, once: a double-array trie of the dictionary (with user
words by jieba's own rules), the tables of ``finalseg``, and the form each code point takes. Compiled lexicons are
kept in the user's cache and mapped, so that processes share them. jieba's process-wide state and its own cache file
are never touched. Refuses to know what a corpus, a term or a model is.

The trie: a character of code c leads from state s to ``base[s] + c`` if that cell's check is s. State 0 is the root.
Base, check and probability of a cell stand side by side, so that one miss of the cache brings all three.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duanti.compilation import announce, cache_folder, in_use, kernel, source_digest

#: Code points of Han in jieba's patterns: [一-鿕]
HAN_FIRST, HAN_LAST = 0x4E00, 0x9FD5
#: What else stands in jieba's blocks, besides Han and ASCII letters and digits.
BLOCK_SIGNS = "+#&._%-"
_STATES = "BEMS"  # in this order, so that of equal paths the later letter is the larger index
_MIN_FLOAT = -3.14e100  # finalseg's "impossible"

# Marks that are drawn with no width: they change no word, and pages are full of them.
ZERO_WIDTH = frozenset(
    chr(c) for c in (0x00AD, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF)
)
#: An entry of the form table from here on names an expansion, below it is what to add to the code point.
EXPANSION = 1 << 24
CAPITAL_SIGMA = 0x03A3


class Lexicon(NamedTuple):
    """Everything segmentation needs, as arrays."""

    codes: NDArray[np.uint16]  # (65536,) code point -> trie code, 0 for a character in no word
    cells: NDArray[np.float64]  # (n_cells, 2): two int32, base and check; ln of the word's probability, or NaN
    unknown: NDArray[np.float64]  # (1,) ln of the probability of a character that is no word
    start: NDArray[np.float64]  # (4,) states B E M S
    transition: NDArray[np.float64]  # (4, 4) from, to
    emission: NDArray[np.float64]  # (n_han, 4)


class Forms(NamedTuple):
    """What each code point becomes before segmenting: normalised, lower-cased, both or neither.

    ``pages[page_of[c >> 8], c & 255]`` is added to c, or, from ``EXPANSION`` on, names the expansion whose code
    points are ``expansions[expansion_offsets[i] : expansion_offsets[i + 1]]``.
    """

    page_of: NDArray[np.int32]
    pages: NDArray[np.int32]
    expansions: NDArray[np.uint32]
    expansion_offsets: NDArray[np.int32]


class TextTables(NamedTuple):
    """What turns text into tokens: a model carries its own, so that it predicts the same for ever."""

    lexicon: Lexicon
    forms: Forms


def normalize(text: str) -> str:
    """Return ``text`` with each code point replaced by its NFKC form, zero-width marks removed.

    Code points are mapped one by one (no composition across them), so that a position in the original can
    always be told.

    >>> normalize("ＧＤＰ增长５％")
    'GDP增长5%'
    """
    return text.translate(_NORMAL_FORMS)


class _NormalForms(dict[int, str]):
    """Code point -> its normal form, worked out on first need."""

    def __missing__(self, code_point: int) -> str:
        character = chr(code_point)
        form = "" if character in ZERO_WIDTH else unicodedata.normalize("NFKC", character)
        self[code_point] = form
        return form


_NORMAL_FORMS = _NormalForms()


def load_tables(user_words: tuple[str, ...] = (), *, normalized: bool = False, lowercase: bool = True) -> TextTables:
    """Return the tables of the dictionary that is installed."""
    return TextTables(load_lexicon(user_words), load_forms(normalized, lowercase))


@lru_cache(maxsize=8)
def load_lexicon(user_words: tuple[str, ...] = ()) -> Lexicon:
    """Return jieba's compiled lexicon with ``user_words`` added in this order by ``jieba.add_word``'s rules."""
    key = hashlib.sha256(repr((digest(), user_words)).encode()).hexdigest()
    return Lexicon(**_cached(f"lexicon-{key[:32]}", lambda: compile_lexicon(user_words)._asdict()))


@lru_cache(maxsize=4)
def load_forms(normalized: bool, lowercase: bool) -> Forms:
    """Return the table of forms for these two options."""
    name = f"forms-{unicodedata.unidata_version}-{normalized:d}{lowercase:d}"
    return Forms(**_cached(name, lambda: compile_forms(normalized, lowercase)._asdict()))


@lru_cache(maxsize=1)
def digest() -> str:
    """SHA-256 of what decides jieba's words: its dictionary and its HMM tables."""
    state = hashlib.sha256()
    folder = _jieba_folder()
    for source in [folder / "dict.txt", *sorted((folder / "finalseg").glob("prob_*.py"))]:
        state.update(hashlib.sha256(source.read_bytes()).digest())
    return state.hexdigest()


def version() -> str:
    """jieba's version."""
    return installed_version("jieba")


def compile_lexicon(user_words: tuple[str, ...] = ()) -> Lexicon:
    """Compile jieba's dictionary and tables (a second or two)."""
    frequencies, total = _frequencies(user_words)
    words = sorted(word for word, frequency in frequencies.items() if frequency and _reachable(word))
    codes = _character_codes(words)
    text = "".join(words)
    coded = codes[np.frombuffer(text.encode("utf-16-le"), dtype="<u2")]
    offsets = np.concatenate(([0], np.cumsum(np.fromiter(map(len, words), np.int64, len(words)))))
    # By code, not by character, because the trie is built from children in the order of their codes.
    order = np.array(sorted(range(len(words)), key=lambda w: coded[offsets[w] : offsets[w + 1]].tolist()), np.int64)
    # math.log and this order of operations, because jieba's probabilities are their results to the last bit.
    log_total = math.log(total)
    log_probability = np.array([math.log(frequencies[word]) - log_total for word in words])
    links, word_of = _build_trie(coded, offsets, order, int(codes.max()))
    cells = np.full((len(links), 2), np.nan)
    cells.view(np.int32)[:, :2] = links
    cells[word_of >= 0, 1] = log_probability[word_of[word_of >= 0]]
    return Lexicon(codes, cells, np.array([math.log(1) - log_total]), *_markov_tables())


def compile_forms(normalized: bool, lowercase: bool) -> Forms:
    """Compile the form of every code point."""
    added = np.zeros(0x110000, dtype=np.int32)
    expansions: list[str] = []
    for code_point in range(0x110000):
        character = chr(code_point)
        form = _NORMAL_FORMS[code_point] if normalized else character
        form = form.lower() if lowercase and CAPITAL_SIGMA not in map(ord, form) else form
        if len(form) == 1:
            added[code_point] = ord(form) - code_point
        else:
            added[code_point] = EXPANSION + len(expansions)
            expansions.append(form)
    pages, page_of = np.unique(added.reshape(-1, 256), axis=0, return_inverse=True)
    characters = np.array([ord(character) for form in expansions for character in form], dtype=np.uint32)
    offsets = np.concatenate(([0], np.cumsum([len(form) for form in expansions])))
    return Forms(page_of.ravel().astype(np.int32), pages, characters, offsets.astype(np.int32))


def _jieba_folder() -> Path:
    spec = find_spec("jieba")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "jieba is not installed, and its dictionary is not compiled yet. Install duanti[train]."
        )
    return Path(spec.origin).parent


def _frequencies(user_words: Sequence[str]) -> tuple[dict[str, int], int]:
    """Frequencies of all words and prefixes, and their total, after ``add_word`` on a tokenizer of our own."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jieba 0.42.1 has invalid escape sequences
        import jieba
    own = jieba.Tokenizer()
    own.FREQ, own.total = own.gen_pfdict(own.get_dict_file())
    own.initialized = True
    for word in user_words:
        own.add_word(word)
    return own.FREQ, own.total


def _reachable(word: str) -> bool:
    """Whether jieba ever looks this word up: it does so only inside a block."""
    return all(HAN_FIRST <= ord(c) <= HAN_LAST or (c.isascii() and c.isalnum()) or c in BLOCK_SIGNS for c in word)


def _character_codes(words: Sequence[str]) -> NDArray[np.uint16]:
    """Number the characters of all words from 1, frequent ones first: that keeps the trie dense."""
    counts = np.bincount(np.frombuffer("".join(words).encode("utf-16-le"), dtype="<u2"), minlength=65536)
    ranked = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    codes = np.zeros(65536, dtype=np.uint16)
    codes[ranked] = np.arange(1, len(ranked) + 1)
    return codes


def _build_trie(
    coded: NDArray[np.uint16], offsets: NDArray[np.int64], order: NDArray[np.int64], largest_code: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Lay the trie of sorted words into a double array.

    Returns base and check of each cell, and the word that ends there or -1. Parents come before their children, and
    of one depth the nodes with most children come first: the many with one child then fill what gaps are left.
    """
    depth, code, word, first_child, n_children = _enumerate_trie(coded, offsets, order, largest_code)
    links, cell_of = _place_nodes(np.lexsort((-n_children, depth)), code, first_child, n_children, largest_code)
    word_of = np.full(len(links), -1, np.int64)
    word_of[cell_of] = word
    return links, word_of


@kernel
def _enumerate_trie(coded: Any, offsets: Any, order: Any, largest_code: int) -> Any:
    """The nodes of the trie, breadth first, so that the children of a node stand together, by their codes."""
    n_most = len(coded) + 1
    depth, code, word = np.zeros(n_most, np.int64), np.zeros(n_most, np.int64), np.full(n_most, -1, np.int64)
    first_child, n_children = np.zeros(n_most, np.int64), np.zeros(n_most, np.int64)
    begin, end = np.zeros(n_most, np.int64), np.zeros(n_most, np.int64)  # the sorted words below each node
    end[0] = len(order)
    n_nodes = 1
    node = 0
    while node < n_nodes:
        first_child[node] = n_nodes
        for place in range(begin[node], end[node]):
            candidate = order[place]
            if offsets[candidate + 1] - offsets[candidate] == depth[node]:
                word[node] = candidate
                continue
            following = np.int64(coded[offsets[candidate] + depth[node]])
            if n_children[node] == 0 or following != code[n_nodes - 1]:
                depth[n_nodes], code[n_nodes], begin[n_nodes] = depth[node] + 1, following, place
                n_children[node] += 1
                n_nodes += 1
            end[n_nodes - 1] = place + 1
        node += 1
    return depth[:n_nodes], code[:n_nodes], word[:n_nodes], first_child[:n_nodes], n_children[:n_nodes]


@kernel
def _place_nodes(order: Any, code: Any, first_child: Any, n_children: Any, largest_code: int) -> Any:
    """Give each node's children the first cells that are free at the distances of their codes."""
    size = 4 * len(order) + 2 * largest_code + 2
    links = np.full((size, 2), -1, np.int32)
    links[:, 0] = 0
    links[0, 1] = 0  # the root is taken
    cell_of = np.zeros(len(order), np.int64)
    next_free, end = 1, 1  # below next_free all cells are taken; from end on all are free
    dense, siblings = 1, 0  # where cells are no longer all but full, for nodes of so many children
    for node in order:
        n = n_children[node]
        if n == 0:
            continue
        codes = code[first_child[node] : first_child[node] + n]
        while links[next_free, 1] != -1:
            next_free += 1
        if n != siblings:
            dense, siblings = next_free, n  # fewer children fit where more did not
        place = max(dense, next_free)
        base, misses = -1, 0
        while base < 0:
            if place >= end:
                base = max(end - codes[0], 0)
            elif links[place, 1] == -1:
                candidate = place - codes[0]
                fits = candidate >= 0
                for i in range(1, n):
                    if not fits or links[candidate + codes[i], 1] != -1:
                        fits = False
                        break
                if fits:
                    base = candidate
                misses += 1
                if misses % 2000 == 0:
                    dense = place
            place += 1
        links[cell_of[node], 0] = base
        for i in range(n):
            links[base + codes[i], 1] = cell_of[node]
            cell_of[first_child[node] + i] = base + codes[i]
        end = max(end, base + codes[n - 1] + 1)
    # Any base plus any code stays inside.
    return links[: end + largest_code + 1].copy(), cell_of


def _markov_tables() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """finalseg's start, transition and emission tables, states in the order B E M S."""
    from jieba.finalseg import prob_emit, prob_start, prob_trans

    start = np.array([prob_start.P[state] for state in _STATES])
    transition = np.array([[prob_trans.P[a].get(b, _MIN_FLOAT) for b in _STATES] for a in _STATES])
    emission = np.full((HAN_LAST - HAN_FIRST + 1, len(_STATES)), _MIN_FLOAT)
    for column, state in enumerate(_STATES):
        for character, probability in prob_emit.P[state].items():
            if len(character) == 1 and HAN_FIRST <= ord(character) <= HAN_LAST:
                emission[ord(character) - HAN_FIRST, column] = probability
    return start, transition, emission


def _cached(name: str, compile_arrays: Any) -> Mapping[str, NDArray[Any]]:
    """Arrays by name from the user's cache, mapped; compiled and put there first where they are missing.

    Many processes may start at once: each compiles into a folder of its own, and the first to rename it wins.
    """
    root = cache_folder()
    if root is None:
        return {name: read_only(array) for name, array in compile_arrays().items()}
    folder = in_use(root / "lexicon" / f"{name}-{source_digest()[:16]}")
    if not folder.exists():
        announce("compiling jieba's dictionary", folder)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder.parent))
        try:
            for key, array in compile_arrays().items():
                np.save(beside / f"{key}.npy", array, allow_pickle=False)
            beside.rename(folder)
        except OSError:
            if not folder.exists():
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return {path.stem: read_only(np.load(path, mmap_mode="r", allow_pickle=False)) for path in folder.glob("*.npy")}


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A plain view that cannot be written: kernels are compiled for one kind of array, mapped or not."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view
