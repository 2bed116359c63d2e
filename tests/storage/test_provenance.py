import subprocess
import sys
from pathlib import Path

from distcel.storage import provenance
from distcel.storage.provenance import describe_commit, source_digest, write_copy

ASK_COPY = """
from distcel.experiment.loading import load_experiment
from distcel.storage.provenance import source_digest
print(source_digest(), load_experiment("digits", "smoke").dataset)
"""


def test_a_copy_of_the_package_is_whole_and_of_the_same_code(tmp_path: Path) -> None:
    package = write_copy(tmp_path)
    original = Path(provenance.__file__).parents[1]
    modules = {path.relative_to(original) for path in original.rglob("*.py")}
    assert modules <= {path.relative_to(package) for path in package.rglob("*.py")}
    ran = subprocess.run(
        [sys.executable, "-c", ASK_COPY],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == [source_digest(), "digits"]
    edited = package / "search_spaces" / "common.py"
    edited.write_text(edited.read_text() + "# a comment\n")
    ran = subprocess.run(
        [sys.executable, "-c", ASK_COPY],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split()[0] != source_digest()


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@here", "-c", "commit.gpgsign=false"]
    ran = subprocess.run(
        ["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def test_a_commit_is_named_with_whether_the_code_is_another(tmp_path: Path) -> None:
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
