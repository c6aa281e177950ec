"""A run is evaluated and continued with the prompt form and task strings of its training."""

import json

import pytest

import gin
from launch.checkpoint_source import check_prompts, recorded_settings
from launch.gin_config import ConfigError
from launch.train_job import described_model
from richhf.data.prompts import AUTHOR_TASK_STRINGS, TASK_STRINGS, WORDS
from richhf.inference.load import MODEL_FILE
from richhf.models import RAHFConfig, RichFeedbackModel


@pytest.fixture
def run_dir(tmp_path):
    """Writes the settings of a run that was trained under some gin lines."""

    def write(*lines):
        gin.clear_config()
        gin.parse_config(lines)
        (tmp_path / MODEL_FILE).write_text(
            described_model(RichFeedbackModel(RAHFConfig()), 24, "synthetic_multi_head")
        )
        gin.clear_config()
        return tmp_path

    yield write
    gin.clear_config()


def test_a_run_keeps_how_it_reads_prompts(run_dir):
    strings = json.dumps(AUTHOR_TASK_STRINGS)
    settings = recorded_settings(run_dir('PROMPT_FORM = "words"', f"TASK_STRINGS = {strings}"))
    assert (settings.prompt_form, settings.task_strings) == (WORDS, AUTHOR_TASK_STRINGS)
    assert recorded_settings(run_dir().parent) is None
    plain = recorded_settings(run_dir("TASK_STRINGS = None"))
    assert (plain.prompt_form, plain.task_strings) == ("plain", None)


@pytest.mark.parametrize(
    ("trained", "now", "name"),
    [
        ('PROMPT_FORM = "words"', 'PROMPT_FORM = "plain"', "PROMPT_FORM"),
        ('PROMPT_FORM = "plain"', 'PROMPT_FORM = "words"', "PROMPT_FORM"),
        ("TASK_STRINGS = None", f"TASK_STRINGS = {json.dumps(AUTHOR_TASK_STRINGS)}", "TASK_STRINGS"),
        (f"TASK_STRINGS = {json.dumps(AUTHOR_TASK_STRINGS)}", "TASK_STRINGS = None", "TASK_STRINGS"),
    ],
)
def test_another_reading_is_refused(run_dir, trained, now, name):
    folder = run_dir(trained)
    gin.parse_config(now)
    with pytest.raises(ConfigError, match=f"^{name} is .* says that the run was trained with"):
        check_prompts(folder)
    gin.clear_config()
    gin.parse_config(trained)
    check_prompts(folder)


def test_the_projects_own_task_strings_may_be_written_out(run_dir):
    folder = run_dir("TASK_STRINGS = None")
    gin.parse_config(f"TASK_STRINGS = {json.dumps(TASK_STRINGS)}")
    check_prompts(folder)
