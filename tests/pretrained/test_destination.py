"""What cannot be written is told before."""

import os

import pytest

from richhf.pretrained.destination import check_writable


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    check_writable(tmp_path / "new/model")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/new/model cannot be written, because .*file is no folder"):
        check_writable(tmp_path / "file/new/model")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=f"nothing may be written to {tmp_path};"):
        check_writable(tmp_path / "new/model")
