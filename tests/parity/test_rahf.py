"""The whole of RAHF beside the author's architecture in PyTorch, both variants, in and out."""

import dataclasses
import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from richhf.feedback import HEATMAPS, MULTI_HEAD, SCORES, VARIANTS  # noqa: E402
from richhf.models import (  # noqa: E402
    RAHF,
    HeatmapHead,
    HeatmapHeadConfig,
    RAHFConfig,
    RichFeedbackModel,
    ScoreHead,
    ScoreHeadConfig,
    T5Config,
    ViTConfig,
)
from richhf.pretrained import (  # noqa: E402
    WeightFile,
    author_table,
    export_params,
    flat_shapes,
    import_weights,
    nest,
)
from tests.parity.torch_rahf import TorchRAHF, TorchViT, TransformersViT  # noqa: E402
from tests.parity.torch_weights import arrays, randomise  # noqa: E402

LENGTH, TOKENS = 9, 10
SMALL = RAHFConfig(
    decoder_attends_to="text",
    encode_class_token=True,
    vit=ViTConfig(
        image_size=48,
        patch_size=16,
        width=48,
        depth=2,
        num_heads=3,
        mlp_width=64,
        class_token=True,
        eps=1e-12,
    ),
    t5=T5Config(vocab_size=97, d_model=32, num_heads=2, d_kv=8, d_ff=64, encoder_layers=2, decoder_layers=2),
    heatmap_head=HeatmapHeadConfig(
        conv_widths=(24, 16), deconv_widths=(20, 12), final_width=8, norm_before_relu=False
    ),
    score_head=ScoreHeadConfig(conv_widths=(32, 16, 4), kernel=3, dense_widths=(14, 6)),
)


@dataclasses.dataclass(frozen=True)
class Pair:
    name: str
    config: RAHFConfig
    theirs: TorchRAHF
    flat: dict
    params: dict


def make_pair(name, config, seed=0, vit=TorchViT):
    """The author's network with random weights, and ours with the same ones by import."""
    theirs = TorchRAHF(config, vit)
    randomise(theirs, seed)
    image, tokens = jnp.zeros((1, config.vit.image_size, config.vit.image_size, 3)), jnp.ones((1, 1), int)
    rows = jnp.ones((1, config.rows, 1), int)
    made = jax.eval_shape(lambda: RAHF(config).init(jax.random.key(0), image, rows, tokens))["params"]
    imported = import_weights(WeightFile(Path("made here"), arrays(theirs)), config, flat_shapes(made))
    assert sorted(note.split(" left out")[0] for note in imported.notes) == [
        "vit.pooler.dense.bias",
        "vit.pooler.dense.weight",
    ]
    return Pair(name, config, theirs, imported.params, nest(imported.params, made))


VITS = {"": TorchViT, ", ViT of transformers": TransformersViT}


@pytest.fixture(scope="module", params=itertools.product(VARIANTS, VITS), ids="".join)
def pair(request):
    variant, vit = request.param
    config = dataclasses.replace(SMALL, variant=variant)
    return make_pair(f"RAHF {variant}{vit}", config, vit=VITS[vit])


def make_batch(config, lengths):
    """Images as bytes, prompt rows padded to the longest, tokens for the decoder."""
    rng = np.random.default_rng(0)
    side, images = config.vit.image_size, len(lengths)
    tokens = rng.integers(2, config.t5.vocab_size, (images, config.rows, max(lengths)))
    tokens *= np.arange(max(lengths)) < np.asarray(lengths).reshape(-1, 1, 1)
    decoder_tokens = rng.integers(2, config.t5.vocab_size, (images, TOKENS))
    decoder_tokens[:, 0] = 0
    image = rng.integers(0, 256, (images, side, side, 3), dtype=np.uint8)
    return image, tokens.astype(np.int32), decoder_tokens.astype(np.int32)


def run_theirs(theirs, image, tokens, decoder_tokens, **settings):
    pixels = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 127.5 - 1
    rows, decoder_input = torch.from_numpy(tokens).long(), torch.from_numpy(decoder_tokens).long()
    found = theirs(pixels, rows, decoder_input=decoder_input, keyword_length=TOKENS, **settings)
    return {name: value.numpy() for name, value in found.items()}


def compare_encoder(pair, batch, measure):
    """The feature map that the heads see and the text that the decoder sees, the class token encoded."""
    image, tokens, _ = batch
    row = pair.config.rows - 1
    with torch.no_grad():
        pixels = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 127.5 - 1
        maps, text, mask = pair.theirs.encode(
            pair.theirs.see(pixels), torch.from_numpy(tokens[:, row]).long()
        )

    def encode(net, image, tokens):
        config = net.config
        seen = net.vit(image.astype(jnp.float32) / 127.5 - 1, keep_class_token=config.encode_class_token)
        return net._encode(seen, tokens, ("keywords",), False)[:2]

    run = functools.partial(RAHF(pair.config).apply, method=encode)
    ours_maps, ours_text = jax.jit(run)({"params": pair.params}, image, tokens)
    measure(pair.name, "encoder, image", ours_maps[:, 0], maps.permute(0, 2, 3, 1))
    measure(pair.name, "encoder, text", np.asarray(ours_text[:, 0])[mask.numpy()], text[mask])


def compare_logits(pair, batch, wanted, measure):
    output = jax.jit(RAHF(pair.config).apply)({"params": pair.params}, *batch)
    for name, value in (output.heatmaps | output.scores).items():
        measure(pair.name, f"{name} logits", value, wanted[name], logits=True)
    measure(pair.name, "keyword logits", output.keyword_logits, wanted["keyword_logits"], logits=True)


def compare_text(predictions, wanted):
    theirs = wanted["keyword_tokens"]
    np.testing.assert_array_equal(predictions["keyword_tokens"][:, : theirs.shape[1]], theirs)
    assert len(np.unique(theirs)) > 1


def test_heatmap_head(pair, measure):
    features = np.random.default_rng(2).normal(size=(2, 5, 5, pair.config.t5.d_model)).astype(np.float32)
    shared = pair.config.variant != MULTI_HEAD
    theirs = pair.theirs.heatmap_predictor if shared else pair.theirs.heatmap_predictor["misalignment"]
    params = pair.params["heatmap_head" if shared else "heatmap_heads_misalignment"]
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(features).permute(0, 3, 1, 2))
    ours = jax.jit(HeatmapHead(pair.config.heatmap_head).apply)({"params": params}, features)
    measure(pair.name, "heatmap head alone", ours, wanted, logits=True)


def test_score_head(pair, measure):
    grid = pair.config.vit.grid
    features = np.random.default_rng(3).normal(size=(4, grid, grid, pair.config.t5.d_model))
    features = features.astype(np.float32)
    shared = pair.config.variant != MULTI_HEAD
    theirs = pair.theirs.score_predictor if shared else pair.theirs.score_predictor["aesthetics"]
    params = pair.params["score_head" if shared else "score_heads_aesthetics"]
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(features).permute(0, 3, 1, 2))
    ours = jax.jit(ScoreHead(pair.config.score_head).apply)({"params": params}, features)
    measure(pair.name, "score head alone", ours, wanted, logits=True)


def test_encoder(pair, measure):
    compare_encoder(pair, make_batch(pair.config, (LENGTH, 4)), measure)


def test_whole(pair, measure):
    batch = image, tokens, _ = make_batch(pair.config, (LENGTH, 4, 6))
    wanted = run_theirs(pair.theirs, *batch)
    compare_logits(pair, batch, wanted, measure)
    model = RichFeedbackModel(pair.config, keyword_length=TOKENS)
    features = {"image": image, "encoder_input_tokens": tokens}
    predictions = jax.jit(model.predict_batch)(pair.params, features)
    for kind, names in (("heatmaps", HEATMAPS), ("scores", SCORES)):
        logits = np.stack([wanted[name] for name in names], axis=1)
        # At small size the predictor enlarges the maps to the image: compared is what it enlarges.
        size = (*logits.shape[:2], *image.shape[1:3]) if kind == "heatmaps" else logits.shape
        truth = jax.image.resize(jax.nn.sigmoid(logits), size, "linear")
        measure(pair.name, f"{kind}, predicted", predictions[kind], truth)
    compare_text(predictions, wanted)


def test_out_and_back(pair):
    """What we write is what the author's network loads, strictly, and equals what it was made of."""
    vit = type(pair.theirs.vit)
    table = author_table(pair.config, 5 if vit is TransformersViT else 4)
    state = export_params(table, pair.flat, "our parameters")
    fresh = TorchRAHF(pair.config, vit)
    fresh.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    for name, value in pair.theirs.state_dict().items():
        wanted = torch.zeros_like(value) if "pooler" in name else value
        assert torch.equal(fresh.state_dict()[name], wanted), name
