"""A project of one's own: recipes, training programs, the starter corpus and a README in a new folder.

Owns what is copied and from where: a wheel carries it in ``duanti/project``, a checkout has it in its top-level
folders. Refuses to know what any of it means.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from duanti.errors import DataError, UsageError

_HERE = Path(__file__).parent
#: The folder of the package that a wheel carries it in.
PACKED = "project"
_CHECKOUT = _HERE.parents[1]
#: What a project has, as patterns below its folder; pyproject.toml puts the same into the wheel.
_PARTS = ("configs/*.yaml", "train/*.py", "data/README.md", "data/starter/*")
_GITIGNORE = "__pycache__/\n.venv/\n/mlflow.db*\n/.mlflow.db.lock\n/mlruns/\n/models/\n"


def new_project(folder: str | Path) -> Path:
    """Make a project in a folder that is new or empty; whole, or nothing of it stays.

    Raises
    ------
    UsageError
        when something is there already
    DataError
        when the folder cannot be written
    """
    folder = Path(folder)
    _refuse_taken(folder)
    made: list[Path] = []
    try:
        _fill(folder, made)
    except OSError as error:
        _take_back(made)
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}).") from None
    except BaseException:
        _take_back(made)
        raise
    return folder


def _refuse_taken(folder: Path) -> None:
    if folder.is_dir():
        if any(folder.iterdir()):
            raise UsageError(f"{folder}: is not empty. Choose a new or an empty folder.")
    elif os.path.lexists(folder):
        raise UsageError(f"{folder}: is there, and no folder. Choose another name.")


def _fill(folder: Path, made: list[Path]) -> None:
    """Write everything; ``made`` grows by each folder and file, before there is anything of it."""
    source = _HERE / PACKED if (_HERE / PACKED).is_dir() else _CHECKOUT
    for pattern in _PARTS:
        files = sorted(source.glob(pattern))
        assert files, f"{source} lacks {pattern}"
        for file in files:
            target = folder / file.relative_to(source)
            _make_folder(target.parent, made)
            made.append(target)
            shutil.copyfile(file, target)
    readme = (_HERE / "templates" / "project.md").read_text(encoding="utf-8")
    texts = {"README.md": readme.replace("NAME", folder.resolve().name), ".gitignore": _GITIGNORE}
    for name, text in texts.items():
        made.append(folder / name)
        (folder / name).write_text(text, encoding="utf-8")


def _make_folder(folder: Path, made: list[Path]) -> None:
    if not folder.exists():
        _make_folder(folder.parent, made)
        made.append(folder)
        folder.mkdir()


def _take_back(made: list[Path]) -> None:
    """Remove what was made, the last first, and nothing else."""
    for path in reversed(made):
        with suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()
