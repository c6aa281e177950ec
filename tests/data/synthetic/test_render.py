import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageDraw

from richhf.data.synthetic.artifacts import KINDS, PATCHES, sample_artifact, sample_artifacts
from richhf.data.synthetic.concepts import COLOURS, SHAPES, TEXTURES
from richhf.data.synthetic.render import render
from richhf.data.synthetic.sample import draw
from richhf.data.synthetic.scene import Group, Item, Scene, Style, sample_scene


def one_object(**changes):
    group = Group("circle", "red", "big", "plain", (Item(0.5, 0.5, 0.24, 0.0),))
    return Scene("snow", (dataclasses.replace(group, **changes),), None, 1.0, (0.3, 0.6, 0.1, 0.9))


@pytest.mark.parametrize("kind", KINDS)
def test_an_artifact_changes_pixels_in_its_disk_only(kind):
    size = 64
    centres = (np.arange(size) + 0.5) / size
    changed_share = []
    for index in range(25):
        rng = np.random.default_rng([5, index])
        scene = sample_scene(rng)
        artifact = sample_artifact(rng, scene, kind)
        difference = np.abs(
            render(scene, size).image.astype(int) - render(scene, size, (artifact,)).image
        ).max(-1)
        outside = (
            np.hypot(centres[None] - artifact.x, centres[:, None] - artifact.y) > artifact.radius + 1 / size
        )
        assert difference[outside].max() == 0
        changed_share.append((difference > 18).mean())
    assert np.median(changed_share) > 0.005


def test_sampled_artifacts_are_apart():
    for index in range(100):
        rng = np.random.default_rng([6, index])
        artifacts = sample_artifacts(rng, sample_scene(rng))
        for number, one in enumerate(artifacts):
            for other in artifacts[:number]:
                assert np.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius


def test_concepts_look_different():
    images = [render(one_object(colour=colour), 64).image.astype(int) for colour in COLOURS]
    images += [render(one_object(shape=shape), 64).image.astype(int) for shape in SHAPES if shape != "circle"]
    images += [render(one_object(texture=t), 64).image.astype(int) for t in TEXTURES if t != "plain"]
    for number, image in enumerate(images):
        for other in images[:number]:
            assert (np.abs(image - other).max(-1) > 30).mean() > 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_object_masks_cover_the_object_and_fill_its_radius(shape):
    scene = one_object(shape=shape)
    drawing = render(scene, 128)
    assert drawing.items.shape == (1, 128, 128)
    rows, columns = np.nonzero(drawing.items[0])
    reach = np.hypot(rows + 0.5 - 64, columns + 0.5 - 64).max() / 128
    assert 0.85 * 0.24 < reach < 1.2 * 0.24
    red, green = drawing.image[..., 0].astype(int), drawing.image[..., 1].astype(int)
    assert (red - green > 40)[drawing.items[0]].mean() > 0.95
    assert (red - green > 40)[~drawing.items[0]].mean() < 0.01


def test_the_same_scene_at_twice_the_size_is_the_same_picture():
    for index in range(6):
        rng = np.random.default_rng([7, index])
        scene = sample_scene(rng)
        artifacts = tuple(a for a in sample_artifacts(rng, scene) if a.kind not in PATCHES)
        small, large = render(scene, 64, artifacts).image, render(scene, 128, artifacts).image.astype(float)
        reduced = (large[::2, ::2] + large[1::2, ::2] + large[::2, 1::2] + large[1::2, 1::2]) / 4
        assert np.abs(reduced - small).mean() < 1.5


def test_a_flat_scene_is_what_a_drawing_library_draws():
    """A filled ellipse of PIL in front of one colour, without antialiasing."""
    flat = Style(outline="none", shadow=False, shading=False, smooth=False)
    scene = dataclasses.replace(one_object(purity=1.0), background="white", phases=(0.0,) * 4, style=flat)
    image = Image.new("RGB", (64, 64), "white")
    reach = 0.97 * 0.24 * 64
    ImageDraw.Draw(image).ellipse((32 - reach, 32 - reach, 32 + reach, 32 + reach), fill="red")
    drawn, expected = render(scene, 64).image, np.asarray(image)
    difference = np.abs(drawn.astype(int) - expected).max(-1)
    assert (difference > 0).mean() < 0.03
    assert (difference > 60).mean() < 0.015
    smooth = render(dataclasses.replace(scene, style=dataclasses.replace(flat, smooth=True)), 64).image
    assert (np.abs(smooth.astype(int) - expected).max(-1) > 0).mean() > (difference > 0).mean()


def test_artifacts_can_be_seen_in_flat_scenes():
    clean = seen = 0
    for index in range(200):
        scene = sample_scene(np.random.default_rng([9, index]))
        if scene.style == Style():
            continue
        faithful, damaged, artifacts, changed = draw(np.random.default_rng([10, index]), scene, 64)
        assert len(artifacts) == len(changed)
        assert all(mask.sum() >= 16 for mask in changed)
        clean += not artifacts
        seen += bool(artifacts)
        assert (faithful.image != damaged.image).any() == bool(artifacts)
    assert 0.03 < clean / (clean + seen) < 0.3


def test_haze_lowers_contrast():
    clear = render(one_object(), 64).image
    hazy = render(dataclasses.replace(one_object(), clarity=0.0), 64).image
    assert hazy.std() < 0.65 * clear.std()
