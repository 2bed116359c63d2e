import inspect

import pytest

from distcel.storage.provenance import code_of


def shown(monkeypatch: pytest.MonkeyPatch, source: str) -> str:
    monkeypatch.setattr(inspect, "getsource", lambda _: source)
    return code_of(None)


def test_code_is_the_same_with_other_comments_and_docstrings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = "class A:\n    def f(self):\n        pass\n\ndef g(x):\n    return f'{x}'\n"
    told = (
        '"""Module."""\nclass A:\n    """Class."""\n    def f(self):\n        """Method."""\n'
        '# why\ndef g(x):\n    """What.\n\n    More."""\n    return f"{x}"  # so\n'
    )
    assert shown(monkeypatch, told) == shown(monkeypatch, bare)
    for change in ("return f'{x}!'", "return f'{x}'\n    'no docstring'", "return (x, 'x')"):
        other = bare.replace("return f'{x}'", change)
        assert shown(monkeypatch, other) != shown(monkeypatch, bare)
