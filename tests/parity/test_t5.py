"""T5 v1.0 and v1.1 beside Hugging Face's, from the embeddings to greedy text."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import safetensors.torch  # noqa: E402
from flax import traverse_util  # noqa: E402
from transformers import T5ForConditionalGeneration  # noqa: E402
from transformers.modeling_outputs import BaseModelOutput  # noqa: E402

from richhf.models import T5, RAHFConfig, T5Config  # noqa: E402
from richhf.models.decoding import decode_greedily  # noqa: E402
from richhf.pretrained import (  # noqa: E402
    WeightFile,
    find_format,
    flat_shapes,
    import_weights,
    initial_shapes,
    nest,
    read_weights,
)
from richhf.pretrained.sizes import infer_config  # noqa: E402
from richhf.pretrained.t5_tables import EMBEDDINGS  # noqa: E402
from tests.parity.torch_rahf import t5_config  # noqa: E402
from tests.parity.torch_weights import arrays, randomise  # noqa: E402

V1_0 = T5Config(
    vocab_size=97,
    d_model=48,
    num_heads=4,
    d_kv=8,
    d_ff=80,
    encoder_layers=3,
    decoder_layers=2,
    relative_buckets=16,
    relative_max_distance=24,
)
CONFIGS = {"T5 v1.0": V1_0, "T5 v1.1": dataclasses.replace(V1_0, mlp="gated_gelu", tied_logits=False)}
LENGTH, TOKENS = 40, 12


@dataclasses.dataclass(frozen=True)
class Pair:
    name: str
    config: T5Config
    theirs: torch.nn.Module
    variables: dict

    def ours(self, method, *args):
        run = functools.partial(T5(self.config).apply, method=method)
        return np.asarray(jax.jit(run)(self.variables, *args))


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request):
    config = CONFIGS[request.param]
    theirs = T5ForConditionalGeneration(t5_config(config)).eval()
    if not config.tied_logits:
        # Transformers ties them in any configuration, and unties where a checkpoint has both.
        theirs.lm_head.weight = torch.nn.Parameter(torch.empty_like(theirs.shared.weight))
    randomise(theirs)
    whole = RAHFConfig(t5=config)
    tokens = jnp.zeros((1, 2), jnp.int32)
    made = jax.eval_shape(lambda: T5(config).init(jax.random.key(0), tokens, method=run_all))["params"]
    target = {f"t5/{path}": leaf for path, leaf in flat_shapes(made).items()}
    imported = import_weights(WeightFile(Path("made here"), arrays(theirs)), whole, target)
    params = nest(imported.params, {"t5": made})["t5"]
    return Pair(request.param, config, theirs, {"params": params})


def run_all(t5, tokens):
    embedded = t5.embed(tokens)
    return t5.decode(tokens, t5.encode(embedded, tokens >= 0), tokens >= 0)


@pytest.fixture(scope="module")
def batch():
    """Rows of different lengths: tokens and their mask."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 97, (3, LENGTH))
    tokens *= np.arange(LENGTH) < np.array([[LENGTH], [LENGTH // 2], [7]])
    return tokens.astype(np.int32), tokens > 0


@pytest.fixture(scope="module")
def memory(pair, batch):
    tokens, mask = (torch.from_numpy(value) for value in batch)
    with torch.no_grad():
        return pair.theirs.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state


def test_embeddings(pair, batch, measure):
    tokens, _ = batch
    theirs = pair.theirs.shared(torch.from_numpy(tokens)).detach()
    measure(pair.name, "embeddings", pair.ours(T5.embed, tokens), theirs)


def test_one_block(pair, batch, measure):
    """The first layer alone: both stacks cut to it, their norms at the end taken away."""
    tokens, mask = batch
    config = dataclasses.replace(pair.config, encoder_layers=1)
    stack = pair.theirs.encoder
    with torch.no_grad():
        x = stack.embed_tokens(torch.from_numpy(tokens))
        bias = stack.block[0].layer[0].SelfAttention.compute_bias(LENGTH, LENGTH)
        bias = bias + torch.where(torch.from_numpy(mask)[:, None, None], 0.0, -1e9)
        theirs = stack.block[0](x, attention_mask=None, position_bias=bias)[0]

    def encode(t5, x, mask):
        bias = t5.encoder.position_bias(x.shape[1]) + jnp.where(mask, 0.0, -1e9)[:, None, None, :]
        return t5.encoder.layers[0](x, bias, train=False)

    ours = jax.jit(functools.partial(T5(config).apply, method=encode))(pair.variables, x.numpy(), mask)
    measure(pair.name, "one encoder block", np.asarray(ours)[mask], theirs.numpy()[mask])


def test_encoder(pair, batch, memory, measure):
    tokens, mask = batch
    embedded = pair.theirs.shared(torch.from_numpy(tokens)).detach().numpy()
    ours = pair.ours(T5.encode, embedded, mask)
    measure(pair.name, "encoder", ours[mask], memory.numpy()[mask])


def test_decoder_logits(pair, batch, memory, measure):
    _, mask = batch
    tokens = np.random.default_rng(1).integers(0, 97, (3, TOKENS)).astype(np.int32)
    with torch.no_grad():
        theirs = pair.theirs(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory),
            attention_mask=torch.from_numpy(mask),
            decoder_input_ids=torch.from_numpy(tokens).long(),
        ).logits
    ours = pair.ours(T5.decode, tokens, memory.numpy(), mask)
    measure(pair.name, "decoder logits", ours, theirs, logits=True)


def test_greedy_text(pair, batch, memory):
    _, mask = batch
    with torch.no_grad():
        theirs = pair.theirs.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory),
            attention_mask=torch.from_numpy(mask),
            max_new_tokens=TOKENS,
            do_sample=False,
            num_beams=1,
        )[:, 1:].numpy()

    def decode(variables, memory, mask):
        apply = functools.partial(T5(pair.config).apply, variables)
        cache = apply(memory, mask, TOKENS, method=T5.start_decoding)
        step = functools.partial(apply, method=T5.decode_step)
        return decode_greedily(step, cache, batch=3, length=TOKENS)[0]

    ours = np.asarray(jax.jit(decode)(pair.variables, memory.numpy(), mask))
    assert len(np.unique(theirs)) > 3
    np.testing.assert_array_equal(ours[:, : theirs.shape[1]], theirs)
    assert not ours[:, theirs.shape[1] :].any()


@pytest.mark.parametrize(
    "kept", ["all", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "save_model"]
)
@pytest.mark.parametrize("prefix", ["", "model._orig_mod.module."])
def test_a_plain_state_dict_has_any_name_of_the_embedding(pair, tmp_path, kept, prefix):
    """As PyTorch and safetensors write it; the sizes are those of the model, and so are the arrays."""
    state = pair.theirs.state_dict()
    if kept == "save_model":
        file = tmp_path / "t5.safetensors"
        safetensors.torch.save_model(pair.theirs, file)
    else:
        state = {name: x for name, x in state.items() if kept in ("all", name) or name not in EMBEDDINGS}
        if kept != "all" and pair.config.tied_logits:
            del state["lm_head.weight"]
        file = tmp_path / "t5.ckpt"
        torch.save({"state_dict": {prefix + name: x for name, x in state.items()}, "epoch": 3}, file)
    found = read_weights(file)
    config = infer_config(found, find_format(found))
    assert config.t5 == dataclasses.replace(pair.config, relative_max_distance=128)
    target = {path: leaf for path, leaf in flat_shapes(initial_shapes(config)).items() if path[:3] == "t5/"}
    params = nest(import_weights(found, config, target).params, {})["t5"]
    ours = traverse_util.flatten_dict(params)
    wanted = flat_shapes(pair.variables["params"])
    assert {"/".join(path) for path in ours} == wanted.keys()
    np.testing.assert_array_equal(ours["embedding", "embedding"], pair.theirs.shared.weight.detach().numpy())


def test_a_tied_t5_1_1_of_transformers_5_does_not_scale(tmp_path, measure):
    """Its file has one matrix for embedding and logits, and its config.json says how they are computed."""
    config = CONFIGS["T5 v1.1"]
    theirs = T5ForConditionalGeneration(t5_config(config)).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path)
    found = read_weights(tmp_path)
    assert "lm_head.weight" not in found.arrays
    assert infer_config(found, find_format(found)).t5 == config
    tied = RAHFConfig(t5=dataclasses.replace(config, tied_logits=True))
    with pytest.raises(ValueError, match="scale_decoder_outputs is False there and True in this model"):
        import_weights(found, tied, flat_shapes(initial_shapes(tied)))
    whole = RAHFConfig(t5=config)
    imported = import_weights(found, whole, flat_shapes(initial_shapes(whole)))
    assert "lm_head.weight is shared.weight, as config.json says" in imported.notes
    tokens = np.random.default_rng(1).integers(2, 97, (2, TOKENS)).astype(np.int32)
    with torch.no_grad():
        long = torch.from_numpy(tokens).long()
        wanted = theirs(input_ids=long, decoder_input_ids=long).logits
    params = nest(imported.params, {})["t5"]
    ours = jax.jit(functools.partial(T5(config).apply, method=run_all))({"params": params}, tokens)
    measure("T5 v1.1, tied", "logits", ours, wanted, logits=True)
