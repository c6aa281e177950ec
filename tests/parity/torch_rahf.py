"""The architecture of RAHF's first author in PyTorch: what the weights he published belong to.

Written from facts, not from his code (which has a non-commercial licence): the order of the layers, the names
under which `state_dict` keeps them, and these points.

- The ViT's class token goes through the projection into T5's encoder, before the image's tokens; it is left
  out of the feature map for the heads. The ViT's pooler is there and unused.
- T5's decoder attends to the text positions only.
- Norms over channels are T5's: no mean, no bias, eps 1e-8, a scale of shape [c 1 1]. In the first
  convolutions of a heatmap head they follow the ReLU, everywhere else they precede it.
- Score heads flatten channels first.
- He encodes padded rows without a mask, so that his results for a prompt depend on the longest one in its
  batch. Here padding is masked, which is the same for a row without padding.

Sizes are those of a `RAHFConfig`, so that a small one is for tests and `large384` for benchmarks.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional
from transformers import T5Config, T5ForConditionalGeneration, ViTModel
from transformers import ViTConfig as TransformersViTConfig
from transformers.modeling_outputs import BaseModelOutput

from richhf.feedback import HEATMAPS, KEYWORDS, MULTI_HEAD, OUTPUTS, SCORES
from richhf.models import HeatmapHeadConfig, RAHFConfig, ScoreHeadConfig, ViTConfig
from richhf.models import T5Config as OurT5Config
from richhf.models.t5_layers import GATED_GELU


def t5_config(ours: OurT5Config) -> T5Config:
    """Hugging Face's configuration of the same T5."""
    return T5Config(
        vocab_size=ours.vocab_size,
        d_model=ours.d_model,
        d_kv=ours.d_kv,
        d_ff=ours.d_ff,
        num_layers=ours.encoder_layers,
        num_decoder_layers=ours.decoder_layers,
        num_heads=ours.num_heads,
        relative_attention_num_buckets=ours.relative_buckets,
        relative_attention_max_distance=ours.relative_max_distance,
        dropout_rate=0.0,
        layer_norm_epsilon=ours.eps,
        feed_forward_proj="gated-gelu" if ours.mlp == GATED_GELU else "relu",
        tie_word_embeddings=ours.tied_logits,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )


def vit_config(ours: ViTConfig) -> TransformersViTConfig:
    """Hugging Face's configuration of the same ViT."""
    return TransformersViTConfig(
        image_size=ours.image_size,
        patch_size=ours.patch_size,
        hidden_size=ours.width,
        num_hidden_layers=ours.depth,
        num_attention_heads=ours.num_heads,
        intermediate_size=ours.mlp_width,
        layer_norm_eps=ours.eps,
        hidden_act="gelu_pytorch_tanh" if ours.approximate_gelu else "gelu",
    )


def named(**modules: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(modules)


class ViTLayer(nn.Module):
    """A pre-norm block, its parameters named as in Hugging Face's checkpoints."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        width, hidden = config.width, config.mlp_width
        self.num_heads = config.num_heads
        self.layernorm_before = nn.LayerNorm(width, config.eps)
        inward = named(**{name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.attention = named(attention=inward, output=named(dense=nn.Linear(width, width)))
        self.layernorm_after = nn.LayerNorm(width, config.eps)
        self.intermediate = named(dense=nn.Linear(width, hidden))
        self.output = named(dense=nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, inward = self.layernorm_before(x), self.attention["attention"]
        query, key, value = (
            inward[name](y).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.attention["output"]["dense"](mixed.transpose(1, 2).flatten(2))
        hidden = functional.gelu(self.intermediate["dense"](self.layernorm_after(x)))
        return x + self.output["dense"](hidden)


class ViTEmbeddings(nn.Module):
    """Patches, class token and positions."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        side = config.patch_size
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, config.width))
        self.position_embeddings = nn.Parameter(0.02 * torch.randn(1, 1 + config.grid**2, config.width))
        self.patch_embeddings = named(projection=nn.Conv2d(3, config.width, side, stride=side))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embeddings["projection"](pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1)
        return x + self.position_embeddings


class TorchViT(nn.Module):
    """Images [b 3 h w] to normed tokens [b 1+n c], the class token first."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.embeddings = ViTEmbeddings(config)
        self.encoder = named(layer=nn.ModuleList(ViTLayer(config) for _ in range(config.depth)))
        self.layernorm = nn.LayerNorm(config.width, config.eps)
        self.pooler = named(dense=nn.Linear(config.width, config.width))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.embeddings(pixels)
        for layer in self.encoder["layer"]:
            x = layer(x)
        return self.layernorm(x)


class TransformersViT(ViTModel):
    """The same as transformers makes it, with the names of its version."""

    def __init__(self, config: ViTConfig):
        super().__init__(vit_config(config))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels).last_hidden_state


class ChannelNorm(nn.Module):
    """T5's norm over the channels of maps [b c h w]."""

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean_square = x.pow(2).mean(1, keepdim=True)
        return x * torch.rsqrt(mean_square + self.eps) * self.scale


def conv3(inward: int, outward: int) -> nn.Conv2d:
    return nn.Conv2d(inward, outward, 3, padding=1)


class HeatmapPredictor(nn.Module):
    """Maps of features to maps of logits."""

    def __init__(self, channels: int, config: HeatmapHeadConfig):
        super().__init__()
        first, width = [], channels
        for outward in config.conv_widths:
            norm = ChannelNorm(outward, config.eps)
            after = (norm, nn.ReLU()) if config.norm_before_relu else (nn.ReLU(), norm)
            first += [conv3(width, outward), *after]
            width = outward
        deconvs, residuals = [], []
        for outward in config.deconv_widths:
            up = nn.ConvTranspose2d(width, outward, 3, stride=2, padding=1, output_padding=1)
            deconvs.append(nn.Sequential(up, ChannelNorm(outward, config.eps), nn.ReLU()))
            block: list[nn.Module] = []
            for i in range(config.residual_convs):
                block += [nn.ReLU()] * (i > 0) + [conv3(outward, outward), ChannelNorm(outward, config.eps)]
            residuals.append(nn.Sequential(*block))
            width = outward
        self.conv_layers = nn.Sequential(*first)
        self.deconv_layers = nn.ModuleList(deconvs)
        self.conv_layers2 = nn.ModuleList(residuals)
        self.last_conv1 = conv3(width, config.final_width)
        self.last_conv2 = conv3(config.final_width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [b c h w] to logits [b h2 w2]."""
        x = self.conv_layers(x)
        for deconv, residual in zip(self.deconv_layers, self.conv_layers2, strict=True):
            x = deconv(x)
            x = torch.relu(x + residual(x))
        return self.last_conv2(torch.relu(self.last_conv1(x)))[:, 0]


class ScorePredictor(nn.Module):
    """Maps of features to one logit each."""

    def __init__(self, channels: int, pixels: int, config: ScoreHeadConfig):
        super().__init__()
        convs, width = [], channels
        for outward in config.conv_widths:
            norm = ChannelNorm(outward, config.eps)
            after = (norm, nn.ReLU()) if config.norm_before_relu else (nn.ReLU(), norm)
            convs += [conv3(width, outward), *after]
            width = outward
        dense, width = [], width * pixels
        for outward in config.dense_widths:
            dense += [nn.Linear(width, outward), nn.ReLU()]
            width = outward
        self.conv_layers = nn.Sequential(*convs)
        self.linear_layers = nn.Sequential(*dense, nn.Linear(width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [b c h w] to logits [b]."""
        return self.linear_layers(self.conv_layers(x).flatten(1))[:, 0]


class TorchRAHF(nn.Module):
    """The whole network; `eval()` and random weights, the generator's seed is the caller's.

    `vit` makes the ViT: with the names of the author's published weights, or by the installed transformers,
    as his class does.
    """

    def __init__(self, config: RAHFConfig, vit: Callable[[ViTConfig], nn.Module] = TorchViT):
        super().__init__()
        d_model, grid = config.t5.d_model, config.vit.grid
        self.config = config
        self.vit = vit(config.vit)
        self.t5 = T5ForConditionalGeneration(t5_config(config.t5))
        self.visual_token_projection = nn.Linear(config.vit.width, d_model)

        def heatmap_head() -> HeatmapPredictor:
            return HeatmapPredictor(d_model, config.heatmap_head)

        def score_head() -> ScorePredictor:
            return ScorePredictor(d_model, grid * grid, config.score_head)

        if config.variant == MULTI_HEAD:
            self.heatmap_predictor = nn.ModuleDict({name: heatmap_head() for name in HEATMAPS})
            self.score_predictor = nn.ModuleDict({name: score_head() for name in SCORES})
        else:
            self.heatmap_predictor, self.score_predictor = heatmap_head(), score_head()
        self.eval()

    def see(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images [b 3 h w] in [-1, 1] to projected tokens [b 1+n d], the class token first."""
        return self.visual_token_projection(self.vit(pixels))

    def encode(
        self, visual: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Projected tokens and a prompt row [b l] to a feature map [b d h w], text [b l d] and its mask."""
        mask = tokens > 0
        joined = torch.cat([visual, self.t5.shared(tokens)], dim=1)
        present = torch.cat([mask.new_ones(visual.shape[:2]), mask], dim=1)
        encoded = self.t5.encoder(inputs_embeds=joined, attention_mask=present).last_hidden_state
        count, grid = visual.shape[1], self.config.vit.grid
        maps = encoded[:, 1:count].unflatten(1, (grid, grid)).permute(0, 3, 1, 2).contiguous()
        return maps, encoded[:, count:], mask

    def decode(self, text: torch.Tensor, mask: torch.Tensor, decoder_input: torch.Tensor) -> torch.Tensor:
        """Logits [b k v] of the next token after each of `decoder_input` [b k]."""
        memory = BaseModelOutput(last_hidden_state=text)
        return self.t5(
            encoder_outputs=memory, attention_mask=mask, decoder_input_ids=decoder_input, use_cache=False
        ).logits

    def generate(
        self, text: torch.Tensor, mask: torch.Tensor, length: int, *, min_length: int = 0
    ) -> torch.Tensor:
        """Tokens [b <=length] by greedy decoding with a cache; at least `min_length` of them, for timing."""
        tokens = self.t5.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=text),
            attention_mask=mask,
            max_new_tokens=length,
            min_new_tokens=min_length,
            do_sample=False,
            num_beams=1,
        )
        return tokens[:, 1:]

    @torch.no_grad()
    def forward(
        self,
        pixels: torch.Tensor,
        tokens: torch.Tensor,
        *,
        decoder_input: torch.Tensor | None = None,
        keyword_length: int = 0,
        min_keyword_length: int = 0,
        outputs: Sequence[str] = OUTPUTS,
    ) -> dict[str, torch.Tensor]:
        """Predicts the outputs that are asked for.

        Args:
            pixels: float [b 3 h w] in [-1, 1].
            tokens: int [b t l], padded with 0: one row, or one for each of `OUTPUTS` (augmented prompt).
            decoder_input: int [b k], for logits of the keywords.
            keyword_length: how many tokens to decode; 0 decodes none.
            min_keyword_length: at least so many, whatever the model says.
            outputs: names of the outputs wanted.

        Returns:
            by name: maps of logits [b h w], logits of scores [b]; `keyword_logits` [b k v] and
            `keyword_tokens` [b k].
        """
        shared = self.config.variant == MULTI_HEAD
        visual = self.see(pixels)
        rows: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        result: dict[str, torch.Tensor] = {}
        for name in outputs:
            row = 0 if shared else OUTPUTS.index(name)
            if row not in rows:
                rows[row] = self.encode(visual, tokens[:, row])
            maps, text, mask = rows[row]
            if name != KEYWORDS:
                kind = self.heatmap_predictor if name in HEATMAPS else self.score_predictor
                result[name] = (kind[name] if shared else kind)(maps)
                continue
            if decoder_input is not None:
                result["keyword_logits"] = self.decode(text, mask, decoder_input)
            if keyword_length:
                result["keyword_tokens"] = self.generate(
                    text, mask, keyword_length, min_length=min_keyword_length
                )
        return result
