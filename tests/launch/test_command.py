"""What all mains do with a job that fails."""

import jax.numpy as jnp
import pytest

from launch.command import run


def test_memory_that_runs_out_is_one_line_with_the_next_move(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.gin").write_text("")

    def job():
        jnp.zeros(2**44).block_until_ready()

    assert run("launch.train", "", job, ["--gin_file=run.gin"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("launch.train: Out of memory allocating 70368744177664 bytes. Take more micro")


@pytest.mark.parametrize("message", ["no module", "no onnx: pip install -e '.[export]'"])
def test_what_is_not_installed_is_told_with_one_hint(tmp_path, monkeypatch, capsys, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.gin").write_text("")

    def job():
        raise ImportError(message)

    assert run("launch.export", "", job, ["--gin_file=run.gin"]) == 2
    assert capsys.readouterr().err.count("pip install") == 1
