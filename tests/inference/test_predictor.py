import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

from richhf.feedback import HEATMAPS, OUTPUTS, SCORES, Rule
from richhf.inference.encoder import stack_examples
from richhf.inference.given import check_count
from richhf.inference.predictions import asked_outputs
from richhf.inference.predictor import Predictor

PROMPTS = ("a red cat", "a blue cat on a mat", "mat", "a cat", "red, blue")
SIZES = ((8, 8), (5, 20), (30, 9), (3, 4), (17, 17))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]


def assert_same(found, expected, atol=1e-5):
    assert (found.prompt, found.image_size) == (expected.prompt, expected.image_size)
    assert (found.keywords_text, found.misaligned) == (expected.keywords_text, expected.misaligned)
    for field in ("scores", "heatmaps"):
        assert getattr(found, field).keys() == getattr(expected, field).keys()
        for name, value in getattr(expected, field).items():
            np.testing.assert_allclose(getattr(found, field)[name], value, atol=atol)
    np.testing.assert_allclose(found.word_confidences, expected.word_confidences, atol=atol)


@pytest.fixture(scope="module")
def alone(predictor, images):
    return [predictor(image, prompt)[0] for image, prompt in zip(images, PROMPTS, strict=True)]


@pytest.fixture
def compilations():
    """Counts what XLA compiles."""
    count = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            count.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    jax.monitoring.unregister_event_duration_listener(listen)


def test_an_image_gets_the_same_feedback_in_any_batch_and_order(predictor, images, alone):
    for batch_size in (2, 4):
        for found, expected in zip(predictor(images, PROMPTS, batch_size=batch_size), alone, strict=True):
            assert_same(found, expected)
    turned = predictor(images[::-1], PROMPTS[::-1], batch_size=4)[::-1]
    for found, expected in zip(turned, alone, strict=True):
        assert_same(found, expected)
    assert len({one.scores["overall"] for one in alone}) == len(alone)  # else the same would mean nothing


def test_feedback_is_on_the_image_as_it_was_given(alone, images):
    for one, image, prompt in zip(alone, images, PROMPTS, strict=True):
        assert (one.prompt, one.image_size) == (prompt, image.shape[:2])
        assert tuple(one.scores) == SCORES
        assert {name: heatmap.shape for name, heatmap in one.heatmaps.items()} == dict.fromkeys(
            HEATMAPS, image.shape[:2]
        )
        assert len(one.word_confidences) == len(one.misaligned) == len(one.words)
        assert one.overlay("implausibility").size == image.shape[1::-1]
        assert one.has_artifact == (one.heatmaps["implausibility"].max() >= 0.5)


def test_an_image_may_be_a_file_a_picture_or_pixels(predictor, images, alone, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(images[1]).save(path)
    for given in (path, str(path), Image.fromarray(images[1]), images[1], [path], images[1][None]):
        (found,) = predictor(given, PROMPTS[1])
        assert_same(found, alone[1])
    assert predictor(path, PROMPTS[1], outputs="overall")[0].overlay
    both = predictor(images[1], ["a red cat", PROMPTS[1]])
    assert [one.prompt for one in both] == ["a red cat", PROMPTS[1]]
    assert_same(both[1], alone[1])


def test_nothing_is_compiled_again_for_a_batch_of_a_size_that_was_there(predictor, images, compilations):
    wanted = ("overall", "misalignment", "keywords")
    predictor(images[:3], PROMPTS[:3], outputs=wanted)
    first = len(compilations)
    assert first > 0
    predictor(images[:4], PROMPTS[:4], outputs=wanted[::-1])
    predictor(images[1:], PROMPTS[1:], outputs=wanted[::-1], batch_size=4)
    assert len(compilations) == first
    predictor(images, PROMPTS, outputs=wanted, batch_size=5)
    assert len(compilations) > first


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        ("scores", SCORES),
        ("alignment", ("alignment",)),
        (("overall", "misalignment"), ("misalignment", "overall")),
        (("keywords",), ()),
    ],
)
def test_what_is_not_wanted_is_absent(predictor, images, alone, outputs, names):
    (found,) = predictor(images[0], PROMPTS[0], outputs=outputs)
    assert (*found.heatmaps, *found.scores) == names
    for name in found.scores:
        assert found.scores[name] == pytest.approx(alone[0].scores[name], abs=1e-5)
    for name in found.heatmaps:
        np.testing.assert_allclose(found.heatmaps[name], alone[0].heatmaps[name], atol=1e-5)
    assert (found.keywords_text is None) == ("keywords" not in outputs)


def test_what_is_not_wanted_is_not_computed(predictor, images):
    batch = stack_examples([predictor.encoder(images[0], "a cat")], 1)

    def lowered(outputs):
        network = predictor._computation.network
        return network.lower(predictor.params, batch, outputs=asked_outputs(outputs), beams=1)

    flops = {name: lowered(name).cost_analysis()["flops"] for name in ("scores", "overall", "heatmaps")}
    assert flops["heatmaps"] < flops["overall"] < flops["scores"]
    # Heatmap heads are a program of their own, which runs for what the network hands on.
    handed_on = {
        name: set(lowered(name).out_info[1].get("heatmap_features", ()))
        for name in ("scores", "keywords", "misalignment", "heatmaps")
    }
    assert handed_on == {
        "scores": set(),
        "keywords": set(),
        "misalignment": {"misalignment"},
        "heatmaps": set(HEATMAPS),
    }
    decodes = {kind: "while" in lowered(kind).as_text() for kind in ("scores", "heatmaps", "keywords")}
    assert decodes == {"scores": False, "heatmaps": False, "keywords": True}


def test_beams_find_texts_at_least_as_likely(predictor, images):
    batch = stack_examples([predictor.encoder(images[0], "a red cat on a mat")], 1)

    def value(beams):
        network = predictor._computation.network
        tokens, aux, _ = network(predictor.params, batch, outputs=("keywords",), beams=beams)
        length = int((np.asarray(tokens["keyword_tokens"]) > 0).sum())
        return float(aux["keyword_log_probabilities"].sum()) / ((5 + length) / 6) ** 0.6

    assert value(4) >= value(1) - 1e-5


@pytest.mark.parametrize(
    ("images", "prompts", "options", "message"),
    [
        ([np.zeros((2, 2, 3), "u1")] * 2, ["a"] * 3, {}, "2 images but 3 prompts"),
        (np.zeros((2, 2), "u1"), "a", {}, r"uint8 \[2, 2\].*of a grey image: np.repeat"),
        (np.zeros((4, 4, 3), "f4"), "a", {}, r"float32 \[4, 4, 3\]; expected uint8 \(it spans 0 to 0"),
        (np.zeros((4, 4), "u1"), "a", {}, "expected a path, a PIL image or a uint8 array"),
        ([np.zeros((3, 9, 9), "u1")], "a", {}, "move the channels last"),
        ([None], "a", {}, "image 0 is a NoneType"),
        (7, "a", {}, "images are a int"),
        (None, "a", {}, "images are a NoneType"),
        (np.zeros(()), "a", {}, "images are a ndarray"),
        (np.zeros((2, 0, 3), "u1"), "a", {}, "it has no pixels"),
        (Image.new("RGB", (0, 2)), "a", {}, "image 0 is a picture of 0 x 2 pixels"),
        (np.full((2, 2, 3), np.nan), "a", {}, "12 of its values are NaN"),
        (
            Image.new("F", (2, 2), 9.0),
            "a",
            {},
            "image 0: undecodable image: a picture of mode F with values from 9",
        ),
        ([Image.new("L", (2, 2)), Image.new("La", (2, 2))], "a", {}, "image 1: .* a picture of mode La"),
        (np.zeros((2, 2, 3), bool), "a", {}, r"np\.uint8\(255 \* x\)"),
        (np.full((2, 2, 3), 7), "a", {}, r"\(it spans 7 to 7: np\.uint8\(x\) where that is 0 to 255\)"),
        (np.full((2, 2, 3), 999), "a", {}, r"np\.uint8\(x // 256\) where that is 0 to 65535"),
        ({"a.png", "b.png"}, "a", {}, "images are a set, which has no order"),
        (io.BytesIO(), "a", {}, "image 0 is a BytesIO; .* of an open file give the path"),
        ([io.BytesIO()], "a", {}, "image 0 is a BytesIO; .* of an open file give the path"),
        ("x" * 9999, "a", {}, r"no such file: 'x{100}\.\.\.x{100}'"),
        (np.zeros((2, 2, 3), "u1"), ["a", "b\ud800"], {}, r"prompt 1 has '\\ud800' at 1"),
        (np.zeros((2, 2, 3), "u1"), "a", {"batch_size": True}, "batch_size is True"),
        (np.zeros((2, 2, 3), "u1"), "a", {"beams": -1}, "beams is -1; expected a whole number, 1 or more"),
        (np.zeros((2, 2, 3), "u1"), " ", {}, "prompt 0 is ' '"),
        (np.zeros((2, 2, 3), "u1"), "a", {"outputs": "score"}, "Did you mean 'scores'"),
        (np.zeros((2, 2, 3), "u1"), "a", {"outputs": ()}, "no output was asked for"),
        (np.zeros((2, 2, 3), "u1"), "a", {"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_what_cannot_be_used_is_explained(predictor, images, prompts, options, message):
    with pytest.raises(ValueError, match=message):
        predictor(images, prompts, **options)


def test_files_that_are_not_there_are_named_before_anything_is_computed(native, images, tmp_path):
    Image.fromarray(images[0]).save(tmp_path / "image.png")
    predictor = Predictor(dataclasses.replace(native, params={}))  # it could not compute anything
    missing = [tmp_path / f"{index}.png" for index in range(7)]
    with pytest.raises(ValueError, match=r"no such file: .*0\.png'.*4\.png' and 2 more; expected the paths"):
        predictor([tmp_path / "image.png", *missing, missing[0]], "a cat", batch_size=1)


@pytest.mark.parametrize("value", [2.5, None, "2", np.float32(2)])
def test_a_count_is_a_whole_number(value):
    with pytest.raises(ValueError, match="expected a whole number, 1 or more"):
        check_count("batch_size", value)
    assert check_count("batch_size", np.int64(2)) == 2


def test_prompts_to_encode_are_texts(predictor):
    for prompts, message in (([], "there are no prompts"), (["a", ""], "prompt 1 is ''")):
        with pytest.raises(ValueError, match=message):
            predictor.encode_prompts(prompts)


def test_a_batch_is_no_larger_than_asked_for(predictor, images):
    assert predictor.predict_examples([]) == []
    with pytest.raises(ValueError, match="2 examples are more than a batch of 1"):
        predictor.predict_examples([predictor.encoder(images[0], "a cat")] * 2, batch_size=1)


def test_a_damaged_file_is_named(predictor, tmp_path):
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    pictures = [Image.new("RGB", (2, 2))] * 2
    with pytest.raises(ValueError, match=r"image 2, '.*image\.png': undecodable image"):
        predictor([*pictures, tmp_path / "image.png"], "a cat", batch_size=1, outputs="overall")
    with pytest.raises(ValueError, match="image 1: undecodable image: a picture of mode I"):
        predictor([pictures[0], Image.new("I", (2, 2), 99999)], "a cat", batch_size=1, outputs="overall")


def test_a_picture_that_was_closed_is_told_from_one_that_is_read_late(predictor, images, tmp_path):
    Image.fromarray(images[0]).save(tmp_path / "image.png")
    late, loaded, unread = [Image.open(tmp_path / "image.png") for _ in range(3)]
    assert predictor(late, "a cat", outputs="overall")
    loaded.load()
    made = Image.new("RGB", (2, 2))
    for closed in (loaded, unread, made):
        closed.close()
        with pytest.raises(ValueError, match="image 1 is a picture that was closed"):
            predictor([late, closed], "a cat")


def test_line_breaks_and_tabs_part_words(predictor, images, alone):
    (found,) = predictor(images[1], "a blue\ncat on\ta\u00a0mat")
    assert found.words == ("a", "blue", "cat", "on", "a", "mat")
    assert_same(found, alone[1])
    np.testing.assert_array_equal(
        predictor.encode_prompts("a blue\ncat on\ta\u00a0mat"), predictor.encode_prompts(PROMPTS[1])
    )


@pytest.mark.parametrize("outputs", ["scores", "keywords"])
def test_words_beyond_what_the_model_reads_are_not_covered(predictor, images, outputs):
    prompt = "a red cat on a blue mat, " * 4
    (found,) = predictor(images[0], prompt, outputs=outputs)
    read = next(i for i, covered in enumerate((*found.covered, False)) if not covered)
    assert len(found.words) == 28
    assert not any(found.covered[-4:])
    if outputs == "keywords":
        assert found.word_confidences[-4:] == (None,) * 4
        assert None not in found.word_confidences[:2]
    else:
        assert found.covered == (True,) * read + (False,) * (28 - read)
        length = len(predictor.encoder.vocabulary.encode(" ".join(found.words[:read])))
        assert 0 < length <= predictor.settings.prompt_length - 1
        assert predictor(images[0], "a red cat", outputs=outputs)[0].uncovered_words == ()


def test_a_model_that_reads_no_prompt_covers_no_word(native, images):
    blind = Predictor(
        dataclasses.replace(native, settings=dataclasses.replace(native.settings, see_prompt=False))
    )
    for outputs in ("scores", "keywords"):
        (found,) = blind(images[0], "a red cat", outputs=outputs)
        assert found.uncovered_words == ("a", "red", "cat")
        assert not any(found.misaligned)
        assert set(found.word_confidences) <= {None}


def test_no_images_give_no_feedback(predictor):
    assert predictor([], []) == []


def test_a_cpu_computes_in_float32_whatever_the_model_does(native, images, alone):
    config = dataclasses.replace(native.model.config, dtype="bfloat16")
    half = dataclasses.replace(native, model=dataclasses.replace(native.model, config=config))
    predictor = Predictor(half)
    assert predictor.model == half.model
    assert_same(predictor(images[0], PROMPTS[0])[0], alone[0])


def test_repr_names_the_model_its_size_and_outputs_and_says_that_it_is_a_demonstration(native, predictor):
    text, count = repr(predictor), sum(leaf.size for leaf in jax.tree.leaves(native.params))
    assert "\n" not in text
    assert text.startswith(f"Predictor('unnamed', RAHF multi_head, {count:,} parameters")
    for part in ("images 8 x 8", *OUTPUTS):
        assert part in text
    assert "demonstration" not in text
    settings = dataclasses.replace(
        native.settings, provenance={"name": "small"}, demonstration="do not use it."
    )
    shown = repr(Predictor(dataclasses.replace(native, settings=settings)))
    assert shown.startswith("Predictor('small', ")
    assert shown.endswith("; a demonstration: do not use it.)")


RULE = Rule("has_artifact", {"plausibility": 4.0}, -2.0, 0.5)


def test_the_rules_of_the_model_decide(native, images, alone):
    settings = dataclasses.replace(native.settings, rules=(RULE,))
    found = Predictor(dataclasses.replace(native, settings=settings))(images, PROMPTS)
    for one, before in zip(found, alone, strict=True):
        assert one.findings["has_artifact"].probability == pytest.approx(
            1 / (1 + np.exp(2.0 - 4.0 * (1 - before.scores["plausibility"]))), abs=1e-4
        )


def test_all_that_changes_a_prediction_is_part_of_the_identity(native):
    settings = [
        dataclasses.replace(native.settings, **changes)
        for changes in (
            dict(prompt_length=23),
            dict(see_prompt=False),
            dict(thresholds={"implausibility": 0.25}),
            dict(rules=(RULE,)),
        )
    ]
    model = dataclasses.replace(native.model, keyword_length=11)
    network = dataclasses.replace(native.model.config, dtype="bfloat16")
    changed = [dataclasses.replace(native, settings=one) for one in settings]
    changed += [dataclasses.replace(native, model=model)]
    changed += [dataclasses.replace(native, model=dataclasses.replace(native.model, config=network))]
    changed += [dataclasses.replace(native, params=jax.tree.map(lambda leaf: leaf + 1, native.params))]
    identities = [Predictor(one).identity for one in (native, *changed)]
    assert all(identities.count(one) == 1 for one in identities)
    assert json.loads(json.dumps(identities[0]))["sha256"].keys() == {"weights", "vocabulary"}
    told = dict(provenance={"run": "b"}, calibration={"examples": 3}, demonstration="for tests.")
    other = dataclasses.replace(native.settings, **told)
    assert Predictor(dataclasses.replace(native, settings=other)).identity == identities[0]
