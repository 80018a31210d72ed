"""duanti (段题): what is this paragraph about?

Public names are resolved on first use, so that ``import duanti`` costs nothing and predicting never
imports what only training needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from duanti.config import RunConfig, load_config
    from duanti.corpus import Corpus, read_corpus
    from duanti.errors import BundleError, ConfigError, DataError, DuantiError, TrackingError, UsageError
    from duanti.evaluation import Report, evaluate
    from duanti.model import Prediction, TopicModel
    from duanti.paragraphs import Paragraph, split_paragraphs
    from duanti.pipeline import fit_topic_model
    from duanti.segmentation import Segmenter
    from duanti.vectorizer import TermVectorizer

_HOME = {
    "BundleError": "errors",
    "ConfigError": "errors",
    "Corpus": "corpus",
    "DataError": "errors",
    "DuantiError": "errors",
    "Paragraph": "paragraphs",
    "Prediction": "model",
    "Report": "evaluation",
    "RunConfig": "config",
    "Segmenter": "segmentation",
    "TermVectorizer": "vectorizer",
    "TopicModel": "model",
    "TrackingError": "errors",
    "UsageError": "errors",
    "evaluate": "evaluation",
    "fit_topic_model": "pipeline",
    "load_config": "config",
    "read_corpus": "corpus",
    "split_paragraphs": "paragraphs",
}

__all__ = [
    "BundleError",
    "ConfigError",
    "Corpus",
    "DataError",
    "DuantiError",
    "Paragraph",
    "Prediction",
    "Report",
    "RunConfig",
    "Segmenter",
    "TermVectorizer",
    "TopicModel",
    "TrackingError",
    "UsageError",
    "evaluate",
    "fit_topic_model",
    "load_config",
    "read_corpus",
    "split_paragraphs",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'duanti' has no attribute {name!r}")
    value: object = getattr(import_module(f"duanti.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
