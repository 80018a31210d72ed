"""A trained model on disk: a folder of plain data, whole or not there at all.

    models/starter/
      manifest.json    format, versions, topics, options, provenance, metrics, and the SHA-256 of every other file
      terms.parquet    one row per known term, those of most documents first: kind, term, idf, document_frequency, hash
      weights.npy      float32, terms x topics
      weight_rows.npy  int32, terms: the row of each in weights.npy, where not all terms have one
      bias.npy         float64, topics
      thresholds.npy   float64, topics: from which probability on a text has each, where it may have several or none
      lexicon/*.npy    the compiled dictionary and the table of forms
      context/*.npy    the network that decides in the context of documents, where there is one

Arrays are mapped, not read.

To change the protocol: raise ``FORMAT_VERSION``, keep reading the old one, and keep a bundle of it for the tests.

Owns bytes, digests and the exchange of folders. Refuses to know what the arrays mean. Nothing that is read is
ever executed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from duanti.errors import BundleError

FORMAT = "duanti-bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TERMS = "terms.parquet"
_ARRAY = re.compile(r"(?:(?:lexicon|context)/)?[a-z_]+\.npy")


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds. ``manifest`` has neither the format's own keys nor digests: those are the file's."""

    manifest: Mapping[str, Any]
    terms: pa.Table
    arrays: Mapping[str, NDArray[Any]]  # by path without the ending: "weights", "lexicon/cells"


def write_bundle(folder: str | Path, bundle: Bundle) -> None:
    """Write a bundle, in place of the one that is there.

    It is written beside, made durable, and exchanged with the old folder in one step: a reader finds the old or
    the new bundle, and a process that holds the old one goes on with it.

    Raises
    ------
    BundleError
        when the folder holds something that is not a bundle, or cannot be written
    """
    folder = Path(folder).absolute()
    _refuse_foreign(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _workshop(folder) as beside:
            _write_files(beside, bundle)
            _exchange(beside, folder)
    except OSError as error:
        raise BundleError(f"{folder}: cannot be written ({error.strerror or error}).") from None


def read_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and check it against its digests.

    Raises
    ------
    BundleError
        when it is missing, incomplete, damaged, or of a format this version does not read
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    for name, digest in manifest["files"].items():
        if name != TERMS and not _ARRAY.fullmatch(name):
            raise BundleError(f"{folder / MANIFEST}: names a file no bundle has: {name!r}.")
        _check_digest(folder / name, digest)
    try:
        # ParquetFile, because read_table brings in pandas where that is installed.
        with pq.ParquetFile(folder / TERMS) as file:
            terms = file.read(use_threads=False)  # each thread keeps memory of its own
        pa.default_memory_pool().release_unused()
        arrays = {
            name.removesuffix(".npy"): np.load(folder / name, mmap_mode="r", allow_pickle=False)
            for name in manifest["files"]
            if name != TERMS
        }
    except (OSError, ValueError, pa.ArrowException) as error:
        raise BundleError(f"{folder}: cannot be read ({str(error).splitlines()[0]}). Train the model again.") from None
    return Bundle({key: manifest[key] for key in manifest if key not in _OWN_KEYS}, terms, arrays)


# Terms in a row group: what reading them takes besides their own size.
_ROWS_AT_ONCE = 1 << 16
_OWN_KEYS = ("format", "format_version", "files", "digest")


def bundle_digest(folder: str | Path) -> str:
    """Return the SHA-256 of a bundle: of its manifest, which has those of all other files."""
    return _file_digest(Path(folder) / MANIFEST)


def _write_files(folder: Path, bundle: Bundle) -> None:
    pq.write_table(bundle.terms, folder / TERMS, compression="zstd", row_group_size=_ROWS_AT_ONCE)
    for name, array in bundle.arrays.items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, np.ascontiguousarray(array), allow_pickle=False)
    names = [TERMS, *(f"{name}.npy" for name in bundle.arrays)]
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **bundle.manifest,
        "files": {name: _file_digest(folder / name) for name in names},
    }
    manifest["digest"] = _manifest_digest(manifest)
    text = json.dumps(manifest, ensure_ascii=False, indent=2, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    for path in [*folder.rglob("*"), folder]:
        _flush(path)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: no such bundle. Train one with train/fit.py, or name a folder that has a {MANIFEST}."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{folder}: not a bundle: it has no {MANIFEST}.") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}). The bundle is damaged; train it again.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path}: not the manifest of a duanti bundle.")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            f"{folder}: bundle format {manifest.get('format_version')!r}; this duanti reads format {FORMAT_VERSION}. "
            "Use the duanti that wrote it, or a newer one."
        )
    if manifest.get("digest") != _manifest_digest(manifest) or not isinstance(manifest.get("files"), dict):
        raise BundleError(f"{path}: changed since it was written. The bundle is damaged; train it again.")
    return manifest


def _check_digest(path: Path, expected: str | None) -> None:
    try:
        actual = _file_digest(path)
    except FileNotFoundError:
        raise BundleError(f"{path}: missing. The bundle is incomplete; train it again.") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}).") from None
    if actual != expected:
        raise BundleError(f"{path}: changed since it was written. The bundle is damaged; train it again.")


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    content = {key: manifest[key] for key in manifest if key != "digest"}
    return hashlib.sha256(json.dumps(content, ensure_ascii=True, sort_keys=True).encode()).hexdigest()


def _refuse_foreign(folder: Path) -> None:
    """Never replace a folder that is somebody's own."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise BundleError(f"{folder}: is in the way of the bundle. Move it, or choose another output.")
    if any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder}: holds files but no bundle. Move them, or choose another output.")


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """A locked folder beside ``folder`` to build in, gone at the end; those of dead processes are removed."""
    prefix = f".{folder.name}."
    with ExitStack() as locks:
        # Nobody may take a new folder for a leftover before it is locked.
        with _locked(folder.parent, wait=True):
            for leftover in folder.parent.glob(f"{prefix}*.new"):
                with _locked(leftover) as is_ours:
                    if is_ours:
                        shutil.rmtree(leftover, ignore_errors=True)
            beside = Path(tempfile.mkdtemp(prefix=prefix, suffix=".new", dir=folder.parent))
            locks.enter_context(_locked(beside))
        try:
            beside.chmod(0o755)
            yield beside
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a folder's lock, after waiting for it if told to; False when another process has it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _exchange(new: Path, old: Path) -> None:
    """Put ``new`` in the place of ``old``; afterwards ``new`` is what was there, for the caller to remove."""
    if not old.exists():
        try:
            new.rename(old)
        except OSError as error:  # another process has put its bundle there meanwhile
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            _exchange(new, old)
    elif not _exchange_in_one_step(new, old):
        # No such system call here: between these two steps the place is empty.
        aside = new.with_suffix(".old")
        old.rename(aside)
        new.rename(old)
        aside.rename(new)
    _flush(old.parent)


def _exchange_in_one_step(first: Path, second: Path) -> bool:
    """Linux's renameat2 with RENAME_EXCHANGE; False where the kernel or the file system does not have it."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    at_working_folder, exchange = -100, 2
    if rename(at_working_folder, os.fsencode(first), at_working_folder, os.fsencode(second), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(second))


def _flush(path: Path) -> None:
    """Make a file or a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
