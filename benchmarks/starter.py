"""How well the starter model, which never saw them, names real headlines.

    DUANTI_CORPORA=FOLDER python benchmarks/starter.py [BUNDLE]

Predicts FOLDER/thucnews/dev.jsonl.gz with models/starter and counts a headline as right when its topic stands for its
category; a topic outside the mapping is wrong. Prints the table and puts it into benchmarks/RESULTS.md.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

from duanti import Corpus, TopicModel, read_corpus
from results import write_section

#: Category of thucnews -> topics of the starter corpus that name it.
MEANING = {
    "finance": {"财经"},
    "stocks": {"财经"},
    "realty": {"房产"},
    "education": {"教育"},
    "science": {"科技"},
    "society": {"社会"},
    "politics": {"时政", "国际", "军事", "法治"},
    "sports": {"体育"},
    "game": {"游戏"},
    "entertainment": {"娱乐"},
}


def share_right(model: TopicModel, corpus: Corpus) -> tuple[Counter[str], Counter[str]]:
    """Return the headlines named right and all headlines, per category."""
    right, rows = Counter[str](), Counter[str]()
    for category, prediction in zip(corpus.topics, model.predict(corpus.texts, top=1), strict=True):
        rows[category] += 1
        right[category] += prediction.topic in MEANING[category]
    return right, rows


def main() -> int:
    """Predict, count, write."""
    folder = os.environ.get("DUANTI_CORPORA")
    if not folder:
        print("starter.py: set DUANTI_CORPORA to the folder that holds thucnews/dev.jsonl.gz", file=sys.stderr)
        return 2
    model = TopicModel.load(sys.argv[1] if len(sys.argv) > 1 else "models/starter")
    right, rows = share_right(model, read_corpus(Path(folder) / "thucnews" / "dev.jsonl.gz"))
    lines = ["| category | topics that name it | headlines | right |", "|---|---|---:|---:|"]
    for category in sorted(rows):
        topics = " ".join(sorted(MEANING[category]))
        lines.append(f"| {category} | {topics} | {rows[category]:,} | {right[category] / rows[category]:.1%} |")
    lines.append(f"| **all** | | {rows.total():,} | **{right.total() / rows.total():.1%}** |")
    table = "\n".join(lines)
    print(table)
    write_section("The starter model on real headlines it never saw", table, "python benchmarks/starter.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
