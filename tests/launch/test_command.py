"""What all mains do with a job that fails."""

import jax.numpy as jnp

from launch.command import run


def test_memory_that_runs_out_is_one_line_with_the_next_move(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.gin").write_text("")

    def job():
        jnp.zeros(2**44).block_until_ready()

    assert run("launch.train", "", job, ["--gin_file=run.gin"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("launch.train: Out of memory allocating 70368744177664 bytes. Take more micro")
