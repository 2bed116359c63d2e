import errno
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from distcel.storage.files import remove_partial_files
from distcel.storage.folders import mend_folders, replaced_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    replace(tmp_path / "ensemble", "old")
    return tmp_path / "ensemble"


def replace(folder: Path, content: str) -> None:
    with replaced_folder(folder) as new:
        for name in ("a", "b"):
            (new / name).write_text(content)


def content(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.iterdir())]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_at(step: int, run: Callable[[], object]) -> bool:
    """Run it in a process that is killed before the step; whether it had so many steps.

    Steps are the renamings and what is removed, each file for itself.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) == 9
    steps = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def killing(*arguments: object, **named: object) -> object:
            nonlocal steps
            steps += 1
            if steps == step:
                os._exit(9)
            return call(*arguments, **named)

        return killing

    try:
        for owner, name in ((Path, "rename"), (os, "unlink"), (os, "rmdir")):
            setattr(owner, name, counted(getattr(owner, name)))
        run()
    finally:
        os._exit(0)


def test_a_kill_at_any_step_leaves_the_old_or_the_new_folder(tmp_path: Path) -> None:
    for step in range(1, 100):
        run_dir = tmp_path / str(step)
        folder = run_dir / "ensemble"
        replace(folder, "old")
        was_killed = killed_at(step, partial(replace, folder, "new"))
        remove_partial_files(run_dir)  # as the next launch does
        mend_folders(run_dir, "ensemble")
        assert content(folder) in (["old", "old"], ["new", "new"])
        assert names(run_dir) == ["ensemble"]
        if not was_killed:
            break
    assert step == 6  # rename, rename, and three removals come before
    assert content(folder) == ["new", "new"]


def test_what_fails_leaves_the_old_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError):
        replace(folder, None)  # type: ignore[arg-type]
    assert (content(folder), names(folder.parent)) == (["old", "old"], ["ensemble"])
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name.startswith(".partial-"):
            raise OSError(errno.EIO, "broken")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="broken"):
        replace(folder, "new")
    assert (content(folder), names(folder.parent)) == (["old", "old"], ["ensemble"])


def test_a_link_is_replaced_and_what_it_leads_to_stays(folder: Path, tmp_path: Path) -> None:
    kept = folder.rename(tmp_path / "kept")
    folder.symlink_to(kept)
    replace(folder, "new")
    assert not folder.is_symlink()
    assert (content(folder), content(kept)) == (["new", "new"], ["old", "old"])
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path / "nowhere")
    replace(folder, "newer")
    assert content(folder) == ["newer", "newer"]
    assert names(tmp_path) == ["ensemble", "kept"]


def test_what_cannot_be_removed_is_named_and_no_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rmtree = shutil.rmtree

    def failing(path: Path, ignore_errors: bool = False) -> None:
        if path.name.startswith(".previous-"):
            raise PermissionError(errno.EACCES, "Permission denied", f"{path}/a")
        rmtree(path, ignore_errors)

    monkeypatch.setattr("distcel.storage.folders.shutil.rmtree", failing)
    for number, text in enumerate(("new", "newer"), 1):
        replace(folder, text)
        assert content(folder) == [text, text]
        left = f".previous-ensemble-{number}"
        assert f"{left} is an earlier ensemble; remove it" in caplog.text
    monkeypatch.undo()
    assert len(names(folder.parent)) == 3
    shutil.rmtree(folder)  # as if the launch had been killed before the new one was in place
    mend_folders(folder.parent, "ensemble")
    assert (content(folder), names(folder.parent)) == (["new", "new"], ["ensemble"])
