"""Where compiled code is kept: found again, shared by copies, never stale, never in the way."""

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import duanti

PACKAGE = Path(duanti.__file__).parent

# A package of two modules: a kernel, and its caller in another module.
INNER = "from duanti.compilation import kernel\n\n\n@kernel\ndef inner(x: int) -> int:\n    return x + 1\n"
OUTER = (
    "from duanti.compilation import kernel\nfrom duanti.inner import inner\n\n\n"
    "@kernel\ndef outer(x: int) -> int:\n    return 10 * inner(x)\n"
)
CALL = (
    "from duanti.outer import outer; from duanti.compilation import cache_folder; print(outer(1));"
    "stats = outer.stats; print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()));"
    "print(cache_folder())"
)


def copy_of_the_package(folder: Path) -> Path:
    """A package with duanti's compilation and two kernels."""
    (folder / "duanti").mkdir(parents=True)
    for name in ("compilation.py",):
        shutil.copy(PACKAGE / name, folder / "duanti" / name)
    (folder / "duanti" / "__init__.py").touch()
    (folder / "duanti" / "inner.py").write_text(INNER)
    (folder / "duanti" / "outer.py").write_text(OUTER)
    return folder


def run(package: Path, code: str = CALL, **environment: str) -> list[str]:
    """Run code against a copy of the package, and return what it prints, line by line."""
    command = [sys.executable, "-B", "-c", code]
    variables = {**os.environ, "PYTHONPATH": str(package), **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.splitlines()


def test_compiled_code_is_found_again_and_shared_by_copies(tmp_path: Path) -> None:
    first, second = copy_of_the_package(tmp_path / "one"), copy_of_the_package(tmp_path / "two")
    cache = str(tmp_path / "cache")
    assert run(first, XDG_CACHE_HOME=cache)[:2] == ["20", "0 1"]
    assert run(first, XDG_CACHE_HOME=cache)[:2] == ["20", "1 0"]
    assert run(second, XDG_CACHE_HOME=cache)[:2] == ["20", "1 0"]


def test_a_changed_kernel_recompiles_its_callers_in_other_modules(tmp_path: Path) -> None:
    package = copy_of_the_package(tmp_path / "one")
    cache = str(tmp_path / "cache")
    assert run(package, XDG_CACHE_HOME=cache)[0] == "20"
    (package / "duanti" / "inner.py").write_text(INNER.replace("x + 1", "x + 2"))
    assert run(package, XDG_CACHE_HOME=cache)[0] == "30"


def test_a_changed_constant_recompiles_and_a_change_elsewhere_does_not(tmp_path: Path) -> None:
    package = copy_of_the_package(tmp_path / "one")
    source = INNER.replace("x + 1", "x + ONE").replace("\n\n\n", "\nfrom duanti.numbers import ONE\n\n\n", 1)
    (package / "duanti" / "inner.py").write_text(source)
    (package / "duanti" / "numbers.py").write_text("ONE = 1\n")
    cache = str(tmp_path / "cache")
    assert run(package, XDG_CACHE_HOME=cache)[:2] == ["20", "0 1"]
    (package / "duanti" / "commands.py").write_text("import duanti.outer\n")
    assert run(package, XDG_CACHE_HOME=cache)[:2] == ["20", "1 0"]
    (package / "duanti" / "numbers.py").write_text("ONE = 2\n")
    assert run(package, XDG_CACHE_HOME=cache)[:2] == ["30", "0 1"]


def test_the_cache_belongs_to_the_user_alone(tmp_path: Path) -> None:
    folder = Path(run(copy_of_the_package(tmp_path / "one"), XDG_CACHE_HOME=str(tmp_path / "cache"))[2])
    assert folder == tmp_path / "cache" / "duanti"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not list((tmp_path / "one").rglob("*.nb*"))


@pytest.mark.parametrize("home", ["", "relative/path", "/proc/no/such/home"])
def test_without_a_writable_home_a_private_folder_serves_and_goes(tmp_path: Path, home: str) -> None:
    package = copy_of_the_package(tmp_path / "one")
    answer, _, folder = run(package, XDG_CACHE_HOME=home, HOME=home or "/proc/no/such/home", TMPDIR=str(tmp_path))
    assert answer == "20"
    assert Path(folder).parent == tmp_path
    assert not Path(folder).exists()


def test_where_nothing_is_writable_kernels_still_run(tmp_path: Path) -> None:
    package = copy_of_the_package(tmp_path / "one")
    code = "import tempfile; tempfile.mkdtemp = lambda **_: (_ for _ in ()).throw(OSError(30, 'read-only'));" + CALL
    code = code.replace(
        "stats = outer.stats; print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()));", ""
    )
    assert run(package, code, XDG_CACHE_HOME="/proc/no", HOME="/proc/no") == ["20", "None"]


def test_other_packages_keep_their_own_cache(tmp_path: Path) -> None:
    package = copy_of_the_package(tmp_path / "one")
    (package / "stranger.py").write_text("import numba\n\n\n@numba.njit(cache=True)\ndef f(x):\n    return x\n")
    code = "import duanti.outer, stranger; stranger.f(1); print(stranger.f._cache._cache_path)"
    assert run(package, code, XDG_CACHE_HOME=str(tmp_path / "cache")) == [str(package / "__pycache__")]


def test_folders_that_nobody_used_for_a_month_go_when_a_new_one_comes(tmp_path: Path) -> None:
    package, code = copy_of_the_package(tmp_path / "one"), tmp_path / "cache" / "duanti" / "code"
    for name, age in (("old", 40), ("young", 20)):
        (code / name).mkdir(parents=True)
        os.utime(code / name, (time.time() - age * 24 * 3600,) * 2)
    run(package, XDG_CACHE_HOME=str(tmp_path / "cache"))
    used = {path.name for path in code.iterdir()} - {"young"}
    assert len(used) == 1
    (own,) = used
    assert own != "old"
    assert (code / "young").exists()
    os.utime(code / own, (time.time() - 40 * 24 * 3600,) * 2)
    run(package, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert time.time() - (code / own).stat().st_mtime < 3600


def test_loading_compiled_code_does_not_get_numba_ready_to_compile(tmp_path: Path) -> None:
    package, cache = copy_of_the_package(tmp_path / "one"), str(tmp_path / "cache")
    code = "import sys; from duanti.outer import outer; outer(1); print('numba.np.linalg' in sys.modules)"
    assert run(package, code, XDG_CACHE_HOME=cache) == ["True"]
    assert run(package, code, XDG_CACHE_HOME=cache) == ["False"]
