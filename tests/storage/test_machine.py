import subprocess
from pathlib import Path

from distcel.storage.machine import describe_commit


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@here", "-c", "commit.gpgsign=false"]
    ran = subprocess.run(
        ["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def test_a_commit_is_said_and_whether_the_code_is_another(tmp_path: Path) -> None:
    code = tmp_path / "distcel" / "code.py"
    code.parent.mkdir()
    code.write_text("1")
    git(tmp_path, "init", "--quiet")
    assert describe_commit(tmp_path) is None  # there is no commit yet
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    commit = git(tmp_path, "rev-parse", "--short", "HEAD")
    (tmp_path / "RESULTS.md").write_text("a new section")
    assert describe_commit(tmp_path) == commit
    code.write_text("2")
    assert describe_commit(tmp_path) == f"{commit}, changed"


def test_a_copy_within_another_checkout_has_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "not distcel's")
    installed = tmp_path / "site-packages"
    installed.mkdir()
    assert describe_commit(installed) is None
