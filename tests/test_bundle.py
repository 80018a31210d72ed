"""Bundles: whole or not there, checked at load, exchanged in one step."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from duanti import BundleError, TopicModel
from duanti.bundle import MANIFEST, TERMS

WEIGHTS, BIAS, CELLS = "weights.npy", "bias.npy", "lexicon/cells.npy"


@pytest.fixture
def folder(small_model: TopicModel, tmp_path: Path) -> Path:
    small_model.save(tmp_path / "small")
    return tmp_path / "small"


def rewrite_manifest(folder: Path, **entries: object) -> None:
    """Change the manifest as somebody with an editor would: the digests stay."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps({**manifest, **entries}), encoding="utf-8")


def test_a_loaded_model_scores_as_the_saved_one(small_model: TopicModel, folder: Path) -> None:
    texts = ["球队赢了比赛", "股市大涨", "全新的词语", ""]
    loaded = TopicModel.load(folder)
    np.testing.assert_array_equal(loaded.scores(texts), small_model.scores(texts))
    assert loaded.predict(texts) == small_model.predict(texts)
    assert loaded.provenance == json.loads(json.dumps(small_model.provenance))


def test_weights_are_mapped_not_read(folder: Path) -> None:
    assert isinstance(TopicModel.load(folder).weights, np.memmap)


def test_saving_a_loaded_model_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    TopicModel.load(folder).save(tmp_path / "again")
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 14
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("name", [MANIFEST, TERMS, WEIGHTS, BIAS, CELLS])
def test_a_changed_byte_is_found(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    place = data.rindex(b"a") if name == MANIFEST else len(data) - 5
    data[place] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}.*(changed|cannot be read)"):
        TopicModel.load(folder)


@pytest.mark.parametrize("name", [TERMS, WEIGHTS, BIAS, CELLS])
def test_a_missing_file_is_found(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: missing"):
        TopicModel.load(folder)


def test_a_newer_format_is_named(folder: Path) -> None:
    rewrite_manifest(folder, format_version=99)
    with pytest.raises(BundleError, match="bundle format 99; this duanti reads format 1"):
        TopicModel.load(folder)


def test_a_manifest_that_is_no_json_is_one_line(folder: Path) -> None:
    (folder / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(BundleError, match="cannot be read") as caught:
        TopicModel.load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle"):
        TopicModel.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="not a bundle"):
        TopicModel.load(tmp_path)


def test_pickles_are_refused(folder: Path) -> None:
    np.save(folder / BIAS, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(BundleError):
        TopicModel.load(folder)


def test_a_model_predicts_the_same_when_the_installed_dictionary_is_another(
    small_model: TopicModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_dictionary(*_: object) -> None:
        raise AssertionError("a loaded model asked for the installed dictionary")

    expected = small_model.scores(["股市大涨球队"])
    monkeypatch.setattr("duanti.lexicon.load_lexicon", no_dictionary)
    np.testing.assert_array_equal(TopicModel.load(folder).scores(["股市大涨球队"]), expected)


def test_a_manifest_that_names_foreign_files_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"]["../secret.npy"] = "0" * 64
    content = {key: value for key, value in manifest.items() if key != "digest"}
    digest = hashlib.sha256(json.dumps(content, ensure_ascii=True, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({**manifest, "digest": digest}), encoding="utf-8")
    with pytest.raises(BundleError, match="names a file no bundle has"):
        TopicModel.load(folder)


def test_a_folder_of_somebody_elses_is_never_replaced(small_model: TopicModel, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(BundleError, match="holds files but no bundle"):
        small_model.save(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"


def test_a_process_that_holds_the_old_bundle_goes_on_with_it(small_model: TopicModel, folder: Path) -> None:
    held = TopicModel.load(folder)
    before = held.scores(["股市大涨"]).copy()
    small_model.with_provenance(name="another").save(folder)
    np.testing.assert_array_equal(held.scores(["股市大涨"]), before)
    assert TopicModel.load(folder).provenance["name"] == "another"


def test_nothing_but_the_bundle_is_left(small_model: TopicModel, folder: Path) -> None:
    small_model.save(folder)
    assert [entry.name for entry in folder.parent.iterdir()] == ["small"]


def test_a_fault_while_writing_leaves_the_old_bundle(
    small_model: TopicModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in folder.rglob("*.*")}
    monkeypatch.setattr("numpy.save", full_disk)
    with pytest.raises(BundleError, match="No space left"):
        small_model.save(folder)
    assert {path.name: path.read_bytes() for path in folder.rglob("*.*")} == before
    assert [entry.name for entry in folder.parent.iterdir()] == ["small"]


def test_what_a_killed_process_left_is_removed_by_the_next(small_model: TopicModel, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time; from pathlib import Path; from duanti.bundle import _workshop\n"
        "with _workshop(Path(sys.argv[1])) as beside:\n"
        "    (beside / 'half').write_text('x'); print(beside, flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "small")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    beside = Path(child.stdout.readline().strip())
    assert beside.is_dir()
    small_model.save(tmp_path / "small")  # the other process is alive: its workshop stays
    assert beside.is_dir()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    small_model.save(tmp_path / "small")
    assert not beside.exists()


def test_the_exchange_also_works_without_the_system_call(
    small_model: TopicModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duanti.bundle._exchange_in_one_step", lambda *_: False)
    small_model.with_provenance(name="another").save(folder)
    assert TopicModel.load(folder).provenance["name"] == "another"
    assert [entry.name for entry in folder.parent.iterdir()] == ["small"]


def test_a_bundle_that_was_copied_loads(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert TopicModel.load(tmp_path / "copy").topics == TopicModel.load(folder).topics


def test_many_writers_at_once_all_succeed_and_leave_one_whole_bundle(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from duanti import TopicModel; model = TopicModel.load(sys.argv[1]); sys.stdin.read(1)\n"
        "for number in range(20): model.with_provenance(name=f'{sys.argv[3]}-{number}').save(sys.argv[2])\n"
    )
    target = tmp_path / "shared" / "small"
    command = [sys.executable, "-c", code, str(folder), str(target)]
    writers = [subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stderr=subprocess.PIPE) for n in range(3)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"g")
        writer.stdin.flush()
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [(b"", 0)] * 3
    assert TopicModel.load(target).provenance["name"].endswith("-19")
    assert [entry.name for entry in target.parent.iterdir()] == ["small"]
