"""Strict flags for every test: 8 virtual CPU devices, no silent rank promotion, array shapes checked.

They are set before anything imports jax; `richhf` is imported under jaxtyping's hook, so that every declared
shape and dtype is checked by beartype while tests run and costs nothing in production.
"""

import io
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the time of tests is compilation: it is done fast rather than well, and once for all processes.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} {FLAGS} --xla_llvm_disable_expensive_passes=true"
)
CACHE = "JAX_COMPILATION_CACHE_DIR"
OWN_CACHE = None if CACHE in os.environ else tempfile.mkdtemp(prefix="richhf-tests-")
os.environ.setdefault(CACHE, str(OWN_CACHE))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import hypothesis  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402
import sentencepiece  # noqa: E402

jaxtyping.install_import_hook("richhf", "beartype.beartype")
# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")


def pytest_unconfigure():
    if OWN_CACHE:
        shutil.rmtree(OWN_CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def make_vocabulary():
    """A SentencePiece model of some letters, with the marks where T5 has them."""

    def make(letters="abc", eos_id=1):
        content = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(letters)] * 9), model_writer=content, model_type="char",
            vocab_size=len(letters) + 4, pad_id=0, eos_id=eos_id, unk_id=3 - eos_id, bos_id=-1, minloglevel=2,
        )  # fmt: skip
        return content.getvalue()

    return make
