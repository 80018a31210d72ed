"""How kernels are compiled, and where their machine code is kept.

Owns the ``kernel`` decorator and duanti's folder in the user's cache. Compiled code is kept under the digest of the
sources that any kernel can reach, so that a change to one kernel recompiles its callers in other modules, a change
elsewhere none, and copies of the same package share one cache. Refuses to know what a kernel computes.

numba's own cache watches only the file a function stands in, recompiles for every copy of the package, and fails at
import where nothing is writable; its locators still serve everybody else's functions.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.runtime.nrt import rtsys
from numba.extending import intrinsic

_PACKAGE = Path(__file__).parent
_A_MONTH = 30 * 24 * 3600  # seconds
_Value = TypeVar("_Value")
_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Compile a function to machine code that runs without the GIL, on its first call, and keep it.

    Never ``parallel=True``: numba's thread layers abort on concurrent calls or kill forked children. Threads that
    call a kernel on slices do the same work safely.
    """
    return _compile(function, inline="never")


def inlined(function: _Function) -> _Function:
    """A kernel that is copied into its callers: a call hands over every array of its arguments, which takes longer
    than what a short kernel does."""
    return _compile(function, inline="always")


def _borrow(_: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _without_count(context, builder, signature.args[0], arguments[0])

    return value(value), generate


def _without_count(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Write the code that takes the reference count from an array, or from those in a tuple."""
    if isinstance(kind, numba.types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = array.meminfo.type(None)
        return array._getvalue()
    if isinstance(kind, numba.types.BaseTuple):
        members: Any = kind
        for place, member in enumerate(members):
            part = _without_count(context, builder, member, builder.extract_value(value, place))
            value = builder.insert_value(value, part, place)
    return value


# ``borrowed(arguments)``: arrays without their reference counts, which cost more than what a loop does with them.
# Only arguments may be borrowed, at the top of a kernel that Python calls: the caller holds them until it returns.
# An array that a kernel made itself would be freed after the last use of its own name.
borrowed = cast(Callable[[_Value], _Value], intrinsic(_borrow))


def _compile(function: _Function, **options: Any) -> _Function:
    compiled: Any = numba.njit(nogil=True, **options)(function)
    if cache_folder() is not None:
        make_cache: Any = _Cache
        compiled._cache = make_cache(function)
    return cast(_Function, compiled)


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Return duanti's folder in the user's cache, else a private temporary one, else None.

    The folder belongs to the user alone (0700): what is read from it is run.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - may have no home
    for make in (partial(_private, Path(home) / "duanti"), _temporary):
        try:
            return make()
        except (OSError, RuntimeError):
            continue
    return None


@lru_cache(maxsize=1)
def source_digest() -> str:
    """SHA-256 over the sources of all modules with kernels, and of all that those import from duanti."""
    sources = {path.stem: path.read_bytes() for path in _PACKAGE.glob("*.py")}
    reached: set[str] = set()
    waiting = {name for name, source in sources.items() if b"duanti.compilation import" in source}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= _imported(sources[name]) & sources.keys() - reached
    state = hashlib.sha256()
    for name in sorted(reached):
        state.update(name.encode() + hashlib.sha256(sources[name]).digest())
    return state.hexdigest()


def _imported(source: bytes) -> set[str]:
    """Names that may be those of duanti's modules a source imports, anywhere in it."""
    modules = re.findall(rb"from duanti\.(\w+)|import duanti\.(\w+)", source)
    members = re.findall(rb"from duanti import ([\w, ]+)", source)
    return {name.strip().decode() for names in (*modules, *(line.split(b",") for line in members)) for name in names}


@lru_cache(maxsize=4)
def announce(what: str, folder: Path | None) -> None:
    """Tell a person at a terminal that something is compiled once, when its folder is not there yet."""
    if sys.stderr.isatty() and (folder is None or not folder.exists()):
        print(f"duanti: {what}, once for this installation ...", file=sys.stderr)


@lru_cache(maxsize=1)
def code_folder() -> Path | None:
    """Return where machine code of these sources is kept."""
    folder = cache_folder()
    return None if folder is None else in_use(folder / "code" / source_digest()[:32])


def in_use(folder: Path) -> Path:
    """Mark a folder of the cache as used; when it is new, remove those beside it that nobody used for a month."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        for other in folder.parent.glob("*"):
            with suppress(OSError):
                if time.time() - other.stat().st_mtime > _A_MONTH:
                    shutil.rmtree(other, ignore_errors=True)
    except OSError:
        pass  # a cache that may only be read serves as well
    return folder


def _private(folder: Path) -> Path:
    """Make a folder of this user's own, and prove that it can be written."""
    if not folder.is_absolute():
        raise OSError(f"{folder}: not an absolute path")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.stat()
    if facts.st_uid != os.geteuid():
        raise PermissionError(f"{folder}: belongs to another user")
    if stat.S_IMODE(facts.st_mode) != 0o700:
        folder.chmod(0o700)
    tempfile.TemporaryFile(dir=folder).close()
    return folder


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="duanti-"))
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in forked children, which share it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


class _Locator(_CacheLocator):
    """Where numba finds and keeps the machine code of duanti's kernels."""

    def __init__(self, folder: Path, line: int) -> None:
        self._folder, self._line = folder, line

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return source_digest()

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Any, file: str) -> _Locator | None:
        """Return a locator for duanti's own functions, None for all others."""
        folder = code_folder()
        if folder is None or Path(file).parent != _PACKAGE:
            return None
        return cls(folder, function.__code__.co_firstlineno)


class _CacheParts(CompileResultCacheImpl):
    _locator_classes: list[type[object]] = [_Locator]  # noqa: RUF012 - numba declares it so


class _Cache(FunctionCache):
    """numba's cache, but loading code does not get numba ready to compile, which takes longer than all else."""

    _impl_class = _CacheParts

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)
        cache: Any = super()
        with cache._guard_against_spurious_io_errors():
            return cache._load_overload(sig, target_context)
