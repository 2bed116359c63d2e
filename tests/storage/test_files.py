import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from safetensors.numpy import load

from distcel.storage.files import (
    DamagedFileError,
    content_key,
    read_record,
    read_sealed,
    safetensors_bytes,
    verify,
    write_atomically,
    write_checked,
    write_new,
    write_record,
    write_sealed,
)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "disk full")

    with pytest.raises(OSError, match=r"disk full.*file"):
        write_atomically(tmp_path / "file", fail)
    assert files(tmp_path) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_record(path, {"version": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_record(path, {"version": float("nan")})
    assert read_record(path) == {"version": 1}
    assert files(tmp_path) == ["file"]


def test_a_new_file_never_replaces_one(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        write_new(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"first"
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "no digest", "empty digest", "long digest"])
def test_damage_is_noticed_by_the_digest_beside_a_file(tmp_path: Path, damage: str) -> None:
    path, beside = tmp_path / "file", tmp_path / "file.blake2b"
    write_checked(path, lambda file: file.write(b"content"))
    verify(path)
    if damage == "flip":
        path.write_bytes(b"cnotent")
    elif damage == "truncate":
        path.write_bytes(b"conten")
    elif damage == "no digest":
        beside.unlink()
    else:
        beside.write_bytes(b"" if damage == "empty digest" else beside.read_bytes() + b"\xff")
    with pytest.raises(DamagedFileError, match="file is damaged"):
        verify(path)


def test_every_flipped_bit_and_every_truncation_of_a_record_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "record"
    record = {"k": 3, "epsilon": 0.1, "epochs": [1.5, 2]}
    write_record(path, record)
    content = path.read_bytes()
    for length in range(len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedFileError):
            read_record(path)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert read_record(path) == record  # white space may change
        except DamagedFileError:
            continue


def test_equal_descriptions_have_equal_keys_whatever_their_order() -> None:
    assert content_key({"a": 1, "b": [2, 3]}) == content_key({"b": [2, 3], "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})
    assert content_key([1, 23]) != content_key([12, 3])


def test_a_sealed_file_is_the_old_or_the_new_one_wherever_its_writer_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    path, steps = tmp_path / "state", 0
    assert read_sealed(path) is None
    write_sealed(path, b"old")
    rename, fsync = Path.rename, os.fsync

    def until(step: int, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            nonlocal steps
            steps += 1
            if steps == step:
                raise Killed
            return call(*arguments)

        return counted

    for step in (1, 2, 3):
        steps = 0
        monkeypatch.setattr(Path, "rename", until(step, rename))
        monkeypatch.setattr(os, "fsync", until(step, fsync))
        with pytest.raises(Killed):
            write_sealed(path, b"new")
        assert read_sealed(path) == (b"new" if step == 3 else b"old")


def test_arrays_are_kept_whatever_their_layout_in_memory() -> None:
    plain = np.arange(120.0).reshape(2, 3, 4, 5)
    channels_last = np.ascontiguousarray(plain.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not channels_last.flags.c_contiguous
    kept = load(safetensors_bytes({"weights": channels_last, "count": np.array(7)}))
    np.testing.assert_array_equal(kept["weights"], plain)
    assert kept["count"].shape == ()
