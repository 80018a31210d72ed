"""The house: imports only go down, and each heavy library has one room."""

import ast
import subprocess
import sys
from pathlib import Path

import duanti

SOURCE = Path(duanti.__file__).parent

# From the ground up; a module may import those on the floors below its own.
FLOORS = [
    {"errors", "compilation", "arrow"},
    {"lexicon", "paragraphs", "corpus", "config", "oddities", "scaffold"},
    {"bundle", "text_tables", "summaries", "splitting"},
    {"readers"},
    {"segmentation"},
    {"features", "calibration", "thresholds", "context", "multi_label"},
    {"explanation"},
    {"model", "duplicates", "context_training"},
    {"vectorizer", "drift", "low_rank"},
    {"classifiers"},
    {"pipeline", "evaluation"},
    {"tracking", "audit", "significance", "search"},
    {"report", "predict", "writers", "progress", "leaderboard"},
    {"serving", "jobs", "overview", "suggestion"},
    {"spark", "pages", "terminal"},
    {"server"},
    {"cli"},
]
ROOMS = {
    "jieba": {"lexicon"},
    "numba": {"compilation"},
    "yaml": {"config"},
    "pydantic": {"config", "server"},
    "pydantic_core": {"config"},
    "mlflow": {"tracking"},
    "optuna": {"search"},
    "sklearn": {"vectorizer", "low_rank", "classifiers", "pipeline"},
    "pyspark": {"spark"},
    "fastapi": {"server"},
    "starlette": {"server"},
    "uvicorn": {"server"},
    "jinja2": {"pages"},
    "markupsafe": {"pages"},
}


def imports_of(path: Path) -> set[str]:
    """Dotted names of everything a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def modules() -> dict[str, set[str]]:
    found = {path.stem: imports_of(path) for path in SOURCE.glob("*.py") if path.stem != "__init__"}
    assert len(found) > 15
    return found


def test_every_module_has_a_floor() -> None:
    assert set(modules()) == set().union(*FLOORS)


def test_imports_only_go_down() -> None:
    floor = {module: number for number, floor in enumerate(FLOORS) for module in floor}
    seen = 0
    for module, names in modules().items():
        for name in names:
            package, _, member = name.partition(".")
            target = member.partition(".")[0]
            if package == "duanti" and target in floor:
                seen += 1
                assert floor[target] < floor[module], f"{module} imports {target}"
    assert seen > 30


def test_each_heavy_library_has_its_rooms() -> None:
    seen = set()
    for module, names in modules().items():
        for name in names:
            package = name.partition(".")[0]
            if package in ROOMS:
                seen.add(package)
                assert module in ROOMS[package], f"{module} imports {package}"
    assert {"jieba", "yaml", "pydantic", "mlflow", "optuna", "sklearn", "pyspark"} <= seen


def test_every_module_says_what_it_refuses_to_know() -> None:
    for path in SOURCE.glob("*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert docstring, path.name
        if path.stem not in ("__init__", "errors"):
            assert "Refuses to" in docstring, path.name


def test_nothing_imports_the_training_programs() -> None:
    root = SOURCE.parent.parent
    programs = {path.stem for path in (root / "train").glob("*.py")}
    assert programs
    for path in [*SOURCE.glob("*.py"), *(root / "train").glob("*.py")]:
        assert not programs & {name.partition(".")[0] for name in imports_of(path)}, path.name


def test_training_programs_are_short() -> None:
    programs = list((SOURCE.parent.parent / "train").glob("*.py"))
    assert programs
    assert [path.name for path in programs if len(path.read_text(encoding="utf-8").splitlines()) > 100] == []


def test_importing_duanti_imports_nothing_heavy() -> None:
    code = "import sys, duanti; print(sorted({'numpy', 'jieba', 'sklearn', 'mlflow', 'pyarrow'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
