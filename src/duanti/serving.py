"""A bundle as an MLflow model.

Owns the shape MLflow wants: a frame of texts in, a frame of ``duanti predict``'s rows out. Refuses to know MLflow
itself: this module and the ones below it travel with the logged model, and mlflow imports them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from duanti.errors import UsageError
from duanti.model import TopicModel
from duanti.predict import UNITS, PredictOptions, label_texts


class ServedModel:
    """What ``mlflow.pyfunc.load_model`` wraps."""

    def __init__(self, model: TopicModel) -> None:
        self.model = model

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return one row per text or paragraph, as a DataFrame with object columns: no topic is None, never NaN.

        ``model_input`` is a frame with a column ``text``, and ``document`` where rows have one. ``params`` are
        ``unit`` ("text" or "paragraph"), ``top``, the number of topics to tell, and ``context``, whether topics are
        decided in the context of the document.
        """
        import pandas as pd

        settings = {"unit": "text", "top": 3, "context": True, **(params or {})}
        if settings["unit"] not in UNITS:
            raise UsageError(f"unit is {settings['unit']!r}; use one of {', '.join(UNITS)}.")
        frame = model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame({"text": list(model_input)})
        texts = [text if isinstance(text, str) else None for text in frame["text"]]
        names = frame["document"] if "document" in frame else [None] * len(texts)
        documents = [name if isinstance(name, str) else None for name in names]
        options = PredictOptions(settings["unit"], int(settings["top"]), context=bool(settings["context"]))
        batch = label_texts(self.model, texts, documents, options)
        rows = batch.to_pylist()
        served = pd.DataFrame(
            {name: pd.Series([row[name] for row in rows], dtype=object) for name in batch.schema.names}
        )
        return _with_lasting_nulls(served) if "pyspark.worker" in sys.modules else served


def _with_lasting_nulls(served: Any) -> Any:
    """The rows as they must be in a task of Spark.

    There ``mlflow.pyfunc.spark_udf`` asks every column of strings for ``np.str_``, and pandas makes the text "None" of
    None, or "nan" of a category that is null. These categories say None.
    """
    import pandas as pd

    class Topics(pd.Categorical):  # type: ignore[misc]
        def astype(self, dtype: Any, copy: bool = True) -> Any:
            if isinstance(dtype, np.dtype) and dtype.kind == "U":
                return np.array([*self.categories, None], dtype=object)[self.codes]
            return super().astype(dtype, copy)

    return served.assign(topic=Topics(served["topic"]))


def _load_pyfunc(data_path: str) -> ServedModel:
    """Load the bundle that was logged; the name and signature are MLflow's."""
    return ServedModel(TopicModel.load(data_path))
