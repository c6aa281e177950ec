"""What a new run starts from, told from where, and what starts fresh."""

import dataclasses
import json
import pathlib
import re

import jax
import numpy as np
import pytest
import safetensors.numpy
import seqio
from flax import traverse_util

from launch.data_fit import check_embedding_used, check_vocabulary, file_pieces
from launch.initial_weights import InitialWeights, find_vocabularies, fresh_line, model_sizes
from richhf.models import (
    HeatmapHeadConfig,
    RAHFConfig,
    RichFeedbackModel,
    ScoreHeadConfig,
    T5Config,
    ViTConfig,
    stack_layers,
)
from richhf.pretrained import (
    author_table,
    export_params,
    flat_shapes,
    hugging_face_t5,
    hugging_face_vit,
    initial_shapes,
    t5x_t5,
    write_t5x_checkpoint,
)
from richhf.training.saved_params import restore_params

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = RAHFConfig(
    vit=ViTConfig(image_size=16, patch_size=4, width=8, depth=2, num_heads=2, mlp_width=12),
    t5=T5Config(vocab_size=11, d_model=12, num_heads=3, d_kv=5, d_ff=14, encoder_layers=2, decoder_layers=1),
    heatmap_head=HeatmapHeadConfig(conv_widths=(6,), deconv_widths=(5,), final_width=3),
    score_head=ScoreHeadConfig(conv_widths=(6,), dense_widths=(7,)),
    scan_layers=True,
)
MODEL = RichFeedbackModel(CONFIG)


def random_params(config):
    rng = np.random.default_rng(0)
    shapes = flat_shapes(initial_shapes(config))
    return {path: rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in shapes.items()}


def save(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, path)


@pytest.fixture
def sources(tmp_path):
    """A ViT of Hugging Face's form for images of 12 px, and a T5 of it; their parameters, as of our model."""
    vit = dataclasses.replace(CONFIG.vit, image_size=12, class_token=True)
    params = random_params(dataclasses.replace(CONFIG, vit=vit))
    for part, table in (("vit", hugging_face_vit(vit)), ("t5", hugging_face_t5(CONFIG.t5))):
        own = {path[len(part) + 1 :]: x for path, x in params.items() if path.startswith(f"{part}/")}
        save(tmp_path / part / "model.safetensors", export_params(table, own, "ours"))
    return params


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


@pytest.mark.parametrize("by_part", [True, False])
def test_parts_from_weights_of_other_makes(sources, tmp_path, by_part):
    given = {part: str(tmp_path / part) for part in ("vit", "t5")}
    initial = InitialWeights(given if by_part else [*given.values()], MODEL)
    assert initial.fresh == ("visual_token_projection", "heatmap_heads", "score_heads")
    said = "\n".join(initial.lines)
    assert f"{tmp_path / 'vit'} (ViT of Hugging Face)" in said
    assert f"{tmp_path / 't5'} (T5 of Hugging Face)" in said
    assert "vit/position_embedding: 10 positions made 16" in said
    assert "embeddings.cls_token left out: the model has no class token" in said
    taken = flat(initial.take())
    assert taken.keys() == flat(initial_shapes(CONFIG)).keys()
    np.testing.assert_array_equal(
        taken["vit/blocks/mlp_in/bias"], np.stack([sources[f"vit/block_{i}/mlp_in/bias"] for i in range(2)])
    )
    assert taken["vit/position_embedding"].shape == (16, 8)
    assert {path.split("/")[0] for path, value in taken.items() if value is None} == {
        path.split("/")[0] for path in taken if not path.startswith(("vit/", "t5/"))
    }


AUTHOR = dataclasses.replace(
    CONFIG,
    decoder_attends_to="text",
    encode_class_token=True,
    vit=dataclasses.replace(CONFIG.vit, class_token=True, eps=1e-12),
    heatmap_head=dataclasses.replace(CONFIG.heatmap_head, norm_before_relu=False),
    score_head=dataclasses.replace(CONFIG.score_head, kernel=3),
)


@pytest.mark.parametrize(
    ("make", "said", "part"),
    [("author", "(the author's RAHF (PyTorch))", ""), ("t5x", "(T5 of T5X)", "t5/")],
)
def test_weights_of_more_makes(tmp_path, make, said, part):
    params = {path: x for path, x in random_params(AUTHOR).items() if path.startswith(part)}
    if make == "author":
        given = tmp_path / "author.safetensors"
        save(given, export_params(author_table(AUTHOR), params, "ours"))
    else:
        given, below = tmp_path / "t5x", {path.removeprefix(part): x for path, x in params.items()}
        tree = export_params(t5x_t5(AUTHOR.t5), below, "ours")
        write_t5x_checkpoint(given, traverse_util.unflatten_dict(tree, sep="/"), 3)
    initial = InitialWeights(str(given), RichFeedbackModel(AUTHOR))
    assert said in "\n".join(initial.lines)
    assert (not initial.fresh) == (make == "author")
    taken = {path: x for path, x in flat(initial.take()).items() if x is not None}
    expected = flat(stack_layers(traverse_util.unflatten_dict(params, sep="/")))
    assert taken.keys() == expected.keys()
    for path, x in expected.items():
        np.testing.assert_array_equal(taken[path], x, err_msg=path)


def test_a_whole_model_of_ours_must_be_whole(tmp_path):
    params = random_params(CONFIG)
    write_t5x_checkpoint(tmp_path / "run", traverse_util.unflatten_dict(params, sep="/"), 3)
    assert InitialWeights(str(tmp_path / "run"), MODEL).fresh == ()
    more = RichFeedbackModel(dataclasses.replace(CONFIG, word_head=True))
    with pytest.raises(ValueError, match="has no word_head; it has"):
        InitialWeights(str(tmp_path / "run"), more)
    some = InitialWeights({"t5": str(tmp_path / "run"), "vit": str(tmp_path / "run")}, more)
    assert "word_head" in some.fresh
    assert "score_heads" in some.fresh


def test_what_cannot_be_taken_is_explained(sources, tmp_path):
    vit = str(tmp_path / "vit")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").touch()
    save(tmp_path / "bert.safetensors", {"bert.norm": np.ones(2)})
    for given, message in (
        ([vit, vit], r"has vit twice, in .*\(ViT of Hugging Face\) and in"),
        ({"vitt": vit}, r"'vitt'; expected one of 'vit'.*Did you mean 'vit'"),
        ({"t5": vit}, r"\(ViT of Hugging Face\) has no t5; it has vit"),
        ({"vit": 3}, "expected a path, several, or paths by part"),
        (str(tmp_path / "nowhere"), "no checkpoint in .*nowhere.*Or give weights of another make"),
        (str(tmp_path / "other"), r"The folder holds notes\.txt"),
        (str(tmp_path / "bert.safetensors"), r"is of no known format: 1 arrays, named bert\.norm"),
    ):
        with pytest.raises(ValueError, match=message):
            InitialWeights(given, MODEL)


def with_rows(rows):
    return RichFeedbackModel(dataclasses.replace(CONFIG, t5=dataclasses.replace(CONFIG.t5, vocab_size=rows)))


def test_a_t5_of_other_rows_is_refused(sources, tmp_path):
    other = RichFeedbackModel(dataclasses.replace(CONFIG, t5=dataclasses.replace(CONFIG.t5, vocab_size=13)))
    with pytest.raises(
        ValueError, match=r"t5 embeds 11 tokens, but the model embeds 13: set T5Config\.vocab_"
    ):
        InitialWeights(str(tmp_path / "t5"), other)
    assert InitialWeights(str(tmp_path / "vit"), other).fresh[1] == "t5"


def test_how_much_starts_fresh_is_counted_by_part(sources, tmp_path):
    initial = InitialWeights([str(tmp_path / part) for part in ("vit", "t5")], MODEL)
    sizes = model_sizes(MODEL)
    assert initial.fresh_sizes == {name: sizes[name] for name in initial.fresh}
    assert sum(sizes.values()) == sum(x.size for x in jax.tree.leaves(initial_shapes(CONFIG)))
    line = fresh_line(RichFeedbackModel(RAHFConfig()), {"heatmap_heads": 5_000_000, "score_heads": 120_000})
    assert re.fullmatch(
        r"5\.12 M of \d+\.\d\d M parameters start fresh \(heatmap_heads 5\.00 M, score_heads 0\.12 M\)", line
    )


class Provider:
    """What a task says of its vocabulary."""

    name = "a_task"

    def __init__(self, file, **settings):
        self.output_features = {"inputs": Feature(seqio.SentencePieceVocabulary(str(file), **settings))}


@dataclasses.dataclass
class Feature:
    vocabulary: seqio.SentencePieceVocabulary


def test_sentinels_may_be_in_one_vocabulary_alone(make_vocabulary, tmp_path):
    plain, longer, other = tmp_path / "spiece.model", tmp_path / "longer.model", tmp_path / "other.model"
    plain.write_bytes(make_vocabulary("abcdef"))
    longer.write_bytes(make_vocabulary("abcdefg"))
    other.write_bytes(make_vocabulary("abcdeg"))
    check_vocabulary(Provider(plain, extra_ids=100), plain)
    pieces = file_pieces(plain)
    tokenizer = tmp_path / "tokenizer.json"
    vocab = [[piece, 0.0] for piece in (*pieces, *(f"<extra_id_{i}>" for i in range(99, -1, -1)))]
    tokenizer.write_text(json.dumps({"model": {"type": "Unigram", "vocab": vocab}}))
    check_vocabulary(Provider(plain), tokenizer)
    for file in (longer, other):
        with pytest.raises(ValueError, match=r"the first difference is at \d+\): the same token would be"):
            check_vocabulary(Provider(file), tokenizer)
    tokenizer.write_text('{"model": {"type": "BPE", "vocab": {"a": 0}}}')
    with pytest.raises(ValueError, match="has no Unigram vocabulary"):
        check_vocabulary(Provider(plain), tokenizer)
    np.savez(tmp_path / "t5.npz", a=np.ones(1))
    assert find_vocabularies({"t5": str(tmp_path / "t5.npz")}) == [plain]
    assert find_vocabularies({"vit": str(tmp_path / "t5.npz")}) == []


def test_a_vocabulary_of_another_t5_is_refused(make_vocabulary, tmp_path):
    file = tmp_path / "small.model"
    file.write_bytes(make_vocabulary("abcdef"))
    provider = Provider(file)
    check_embedding_used(provider, MODEL)
    large = RichFeedbackModel(
        dataclasses.replace(CONFIG, t5=dataclasses.replace(CONFIG.t5, vocab_size=32128))
    )
    with pytest.raises(ValueError, match=r"has \d+ pieces, but the T5 embeds 32128 tokens.* Set VOCAB"):
        check_embedding_used(provider, large)


def test_a_vocabulary_that_shifts_t5s_tokens_is_refused():
    """The 100extra file has <s> at 2, where the published T5 have <unk>."""
    file = ROOT.parent / "shared/data/t5_cc_all.32000.100extra.model"
    if not file.exists():
        pytest.skip(f"there is no {file}")
    large = RichFeedbackModel(
        dataclasses.replace(CONFIG, t5=dataclasses.replace(CONFIG.t5, vocab_size=32128))
    )
    with pytest.raises(ValueError, match=r"its <unk> is token 3, that of the published T5 is 2"):
        check_embedding_used(Provider(file), large)


def test_training_starts_from_parts(train, tmp_path, capsys):
    """A file with the ViT alone, of a model of the shipped form: the rest is what a run without it has."""
    assert train(name="plain", steps=1) == 0
    capsys.readouterr()
    plain = flat(restore_params(tmp_path / "plain", ema=False))
    vit = {path: value + 1 for path, value in plain.items() if path.startswith("vit/")}
    save(tmp_path / "vit.safetensors", vit)
    weights = json.dumps({"vit": str(tmp_path / "vit.safetensors")})
    assert train(f"--gin.INITIAL_CHECKPOINT_PATH={weights}", "--gin.LEARNING_RATE=0.0", steps=1) == 0
    said = capsys.readouterr().out
    assert "initial parameters:" in said
    assert f"M  {tmp_path / 'vit.safetensors'} (parameters of this project)" in said
    assert said.count("M  fresh") >= 3
    found = flat(restore_params(tmp_path / "run", ema=False))
    for path, value in vit.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)
    # One step apart, from one seed.
    rest = [path for path in plain if path not in vit]
    assert all(np.abs(found[path] - plain[path]).max() < 0.1 for path in rest)
    assert any(np.abs(x).max() > 0 for x in jax.tree.leaves([found[path] for path in rest]))
