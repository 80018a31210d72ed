"""Text into jieba's tokens, token for token.

Owns ``Segmenter``. Refuses to know terms, weights and files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from joblib import Parallel, delayed

from duanti import lexicon

# Below this many texts a second process costs more (its start, its dictionary) than it saves.
_TEXTS_PER_PROCESS = 20_000


class Segmenter:
    """jieba's segmentation without its process-wide state.

    Parameters
    ----------
    user_words
        words the dictionary shall know besides its own, by ``jieba.add_word``'s rules, in this order
    hmm
        whether runs of single characters are joined by jieba's hidden Markov model
    n_jobs
        processes for ``cut_all``; None: all cores this process may use. The tokens never depend on it.

    >>> Segmenter().cut("他来到了网易杭研大厦")
    ['他', '来到', '了', '网易', '杭研', '大厦']
    """

    def __init__(self, *, user_words: Iterable[str] = (), hmm: bool = True, n_jobs: int | None = None) -> None:
        self.user_words = tuple(user_words)
        self.hmm = hmm
        self.n_jobs = n_jobs

    def cut(self, text: str) -> list[str]:
        """Return the tokens of one text, in order; joined they are the text."""
        tokens: list[str] = lexicon.tokenizer(self.user_words).lcut(text, HMM=self.hmm)
        return tokens

    def cut_all(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the tokens of each text, in order."""
        n_jobs = min(self.n_jobs or available_cores(), -(-len(texts) // _TEXTS_PER_PROCESS))
        if n_jobs <= 1:
            return [self.cut(text) for text in texts]
        step = -(-len(texts) // n_jobs)
        slices = [texts[start : start + step] for start in range(0, len(texts), step)]
        single = Segmenter(user_words=self.user_words, hmm=self.hmm, n_jobs=1)
        parts = Parallel(n_jobs=n_jobs)(delayed(single.cut_all)(part) for part in slices)
        return [tokens for part in parts for tokens in part]


def available_cores() -> int:
    """Number of cores this process may use, which on shared machines is fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
