"""Pages: a document with its topics down the margin, the page to try a model on, and the page to label texts with.

Owns all HTML, and the only import of jinja2. A page is one file that asks no other host for anything: its policy lets
nothing run but the script it came with. What comes from data travels as JSON and is put in as text, never as markup.
Refuses to know models and servers: what is shown comes as plain data (see ``Overview.as_dict`` and
``Suggestion.as_dict``).

    templates/page.html, .css, .js      what all have in common: explanation.html, try.html and label.html fill it
    templates/document.js               how a document is drawn; try.js asks the server
    templates/label.css, .js            asks a person
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"


def explanation_page(documents: Sequence[Mapping[str, Any]], topics: Sequence[str], model: str) -> str:
    """Return a page of whole documents: each an ``Overview.as_dict()`` with the explanations of its paragraphs."""
    return _page("explanation.html", {"documents": documents, "topics": topics, "model": model}, ["document.js"])


def try_page(topics: Sequence[str], model: str, *, knows_context: bool, explain_up_to: int) -> str:
    """Return the page that asks its own server; texts of up to ``explain_up_to`` characters are explained too."""
    data = {"topics": topics, "model": model, "knows_context": knows_context, "explain_up_to": explain_up_to}
    return _page("try.html", data, ["document.js", "try.js"])


def labelling_page(suggestions: Sequence[Mapping[str, Any]], topics: Sequence[str], model: str) -> str:
    """Return a page that asks for the topic of each text, by keyboard: each a ``Suggestion.as_dict()``.

    A browser keeps what was done under the digest of what is asked, so that no two pages share it.
    """
    data = {"suggestions": suggestions, "topics": topics, "model": model}
    key = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:12]
    return _page("label.html", {**data, "key": key}, ["label.js"], ["label.css"])


def _page(template: str, data: Mapping[str, Any], scripts: Sequence[str], styles: Sequence[str] = ()) -> str:
    script = "\n".join([*map(_read, ["page.js", *scripts]), "drawAll();\n"])
    style = "\n".join(map(_read, ["page.css", *styles]))
    policy = (
        f"default-src 'none'; script-src {_allowed(script)}; style-src {_allowed(style)}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    # Ours, and the only markup that is not escaped.
    own = {"script": Markup(script), "style": Markup(style)}
    return _environment().get_template(template).render(data=data, policy=policy, **own)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(autoescape=True, loader=FileSystemLoader(_TEMPLATES))
    environment.policies["json.dumps_kwargs"] = {}  # keys in their own order: shares come largest first
    return environment


@lru_cache(maxsize=8)
def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _allowed(content: str) -> str:
    """What a content security policy calls exactly this inline script or style."""
    return f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
