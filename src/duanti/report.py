"""Pictures and tables of an evaluation, for people.

Owns how figures look. Refuses to compute any.
"""

from __future__ import annotations

import io
import warnings

import numpy as np

from duanti.evaluation import Report


def confusion_picture(report: Report) -> str:
    """Return the confusion matrix as SVG, rows normalised by gold topic, with the counts in the cells.

    Text stays text, so that the viewer's own fonts draw the Han.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    shares = report.confusion / np.maximum(report.confusion.sum(axis=1, keepdims=True), 1)
    columns = [*report.labels, "∅"]
    size = max(4.0, 0.42 * len(report.labels) + 1.5)
    settings = {"svg.fonttype": "none", "svg.hashsalt": "duanti", "font.size": 8}
    with pyplot.rc_context(settings), warnings.catch_warnings():
        # matplotlib's own font lacks Han; the SVG leaves the choice to the viewer.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure, axes = pyplot.subplots(figsize=(size + 0.4, size), layout="constrained")
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(columns)), columns, rotation=90)
        axes.set_yticks(range(len(report.labels)), report.labels)
        axes.set_xlabel(f"predicted   (∅: no topic)   accuracy {report.accuracy:.3f}, macro-F1 {report.macro_f1:.3f}")
        axes.set_ylabel("gold")
        if len(report.labels) <= 40:
            for row, column in np.argwhere(report.confusion > 0):
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(
                    column,
                    row,
                    str(report.confusion[row, column]),
                    ha="center",
                    va="center",
                    color=colour,
                    size=6,
                )
        picture = io.StringIO()
        figure.savefig(picture, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return picture.getvalue()
