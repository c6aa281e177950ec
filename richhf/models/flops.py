"""Analytic FLOPs of a forward pass: what the network must compute, to hold the compiler against.

Counted are matrix products and convolutions, a multiplication and an addition each, where both factors are
there (taps of a kernel that hang over the border are not). Norms, activations and softmaxes are left out: on
real sizes they are a few percent of the operations.
"""

from collections.abc import Mapping, Sequence

from richhf.feedback import HEATMAPS, KEYWORDS, MULTI_HEAD, OUTPUTS, SCORES
from richhf.models.heads import FLATTEN, HeatmapHeadConfig, ScoreHeadConfig
from richhf.models.rahf import IMAGE_AND_TEXT, RAHFConfig, order_outputs
from richhf.models.t5_layers import GATED_GELU, T5Config
from richhf.models.vit import ViTConfig


def _dense(rows: int, c_in: int, c_out: int) -> int:
    return 2 * rows * c_in * c_out


def _taps(size: int, out: int, kernel: int, stride: int, before: int) -> int:
    """Number of pairs of output pixel and kernel tap, along one axis, that meet a pixel of the input."""
    return sum(0 <= o * stride + k - before < size for o in range(out) for k in range(kernel))


def _conv(
    size: int, c_in: int, c_out: int, *, kernel: int = 3, stride: int = 1, padding: str = "SAME"
) -> tuple[int, int]:
    """FLOPs of a convolution of a square map, and the side of its output."""
    if padding == "VALID":
        out, before = (size - kernel) // stride + 1, 0
    else:
        out = -(-size // stride)
        before = max((out - 1) * stride + kernel - size, 0) // 2
    return 2 * _taps(size, out, kernel, stride, before) ** 2 * c_in * c_out, out


def _attention(queries: int, keys: int, width: int, inner: int, *, project_keys: bool = True) -> int:
    projections = 2 * _dense(queries, width, inner) + 2 * _dense(keys, width, inner) * project_keys
    return projections + 2 * _dense(queries, inner, keys)


def _vit(config: ViTConfig) -> int:
    total, size, channels, side = 0, config.image_size, 3, config.patch_size
    for width, stride in config.stem:
        flops, size = _conv(size, channels, width, stride=stride)
        total, channels, side = total + flops, width, side // stride
    patches = config.grid**2
    tokens = patches + config.class_token
    block = _attention(tokens, tokens, config.width, config.width)
    block += 2 * _dense(tokens, config.width, config.mlp_width)
    return total + _dense(patches, side**2 * channels, config.width) + config.depth * block


def _t5_mlp(config: T5Config, tokens: int) -> int:
    return (3 if config.mlp == GATED_GELU else 2) * _dense(tokens, config.d_model, config.d_ff)


def _t5_encoder(config: T5Config, tokens: int) -> int:
    layer = _attention(tokens, tokens, config.d_model, config.num_heads * config.d_kv)
    return config.encoder_layers * (layer + _t5_mlp(config, tokens))


def _t5_decoder(config: T5Config, tokens: int, memory: int) -> int:
    inner = config.num_heads * config.d_kv
    layer = _attention(tokens, tokens, config.d_model, inner) + _t5_mlp(config, tokens)
    layer += _attention(tokens, memory, config.d_model, inner)
    return config.decoder_layers * layer + _dense(tokens, config.d_model, config.vocab_size)


def _heatmap_head(config: HeatmapHeadConfig, size: int, channels: int) -> int:
    total = 0
    for width in config.conv_widths:
        total, channels = total + _conv(size, channels, width)[0], width
    for width in config.deconv_widths:
        # Along an axis, each pixel of the input meets one even output and two odd ones, by one tap each;
        # but no output comes before the first pixel.
        total, channels, size = total + 2 * (3 * size - 1) ** 2 * channels * width, width, 2 * size
        total += config.residual_convs * _conv(size, width, width)[0]
    total += _conv(size, channels, config.final_width)[0]
    return total + _conv(size, config.final_width, 1)[0]


def _score_head(config: ScoreHeadConfig, size: int, channels: int) -> int:
    total = 0
    for width in config.conv_widths:
        flops, size = _conv(size, channels, width, kernel=config.kernel, padding=config.padding)
        total, channels = total + flops, width
    features = channels * size**2 if config.pool == FLATTEN else channels
    for width in (*config.dense_widths, 1):
        total, features = total + _dense(1, features, width), width
    return total


def analytic_flops(
    config: RAHFConfig, input_shapes: Mapping[str, Sequence[int]], outputs: Sequence[str] = OUTPUTS
) -> dict[str, int]:
    """FLOPs of a forward pass by part.

    Args:
        config: the network.
        input_shapes: shapes of `image` [b h w 3], `encoder_input_tokens` [b t l] and, if the decoder runs,
            `decoder_input_tokens` [b k].
        outputs: names of the outputs wanted.

    Returns:
        vit, visual_token_projection, t5_encoder, t5_decoder, heatmap_heads, score_heads, word_head,
        image_word_head; zero for a part that does not run.
    """
    outputs = order_outputs(outputs)
    batch, _, length = input_shapes["encoder_input_tokens"]
    keywords = input_shapes["decoder_input_tokens"][1] if "decoder_input_tokens" in input_shapes else 0
    rows = 1 if config.variant == MULTI_HEAD else len(outputs)
    grid, d_model = config.vit.grid, config.t5.d_model
    visual = grid**2 + config.encode_class_token
    memory = length + grid**2 * (config.decoder_attends_to == IMAGE_AND_TEXT)
    asked = KEYWORDS in outputs
    flops = {
        "vit": _vit(config.vit),
        "visual_token_projection": _dense(visual, config.vit.width, d_model),
        "t5_encoder": rows * _t5_encoder(config.t5, visual + length),
        "t5_decoder": _t5_decoder(config.t5, keywords, memory) if asked and keywords else 0,
        "heatmap_heads": len({*HEATMAPS} & {*outputs}) * _heatmap_head(config.heatmap_head, grid, d_model),
        "score_heads": len({*SCORES} & {*outputs}) * _score_head(config.score_head, grid, d_model),
        "word_head": _dense(length, d_model, 1) * (asked and config.word_head),
        "image_word_head": _dense(grid**2, config.vit.width, config.t5.vocab_size)
        * (asked and config.image_word_head),
    }
    return {part: batch * count for part, count in flops.items()}
