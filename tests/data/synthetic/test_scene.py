import numpy as np
import pytest

from richhf.data.synthetic.concepts import BACKDROPS
from richhf.data.synthetic.scene import LAYOUTS, LEAST_CONTRAST, Style, contrast, free_place, sample_scene

SCENES = [sample_scene(np.random.default_rng([1, index])) for index in range(400)]


def test_objects_are_inside_apart_and_large_enough():
    for scene in SCENES:
        items = [item for _, item in scene.items]
        assert 1 <= len(items) <= 4
        for number, item in enumerate(items):
            assert item.radius >= 0.1
            assert item.radius < item.x < 1 - item.radius
            assert item.radius < item.y < 1 - item.radius
            for other in items[:number]:
                assert np.hypot(item.x - other.x, item.y - other.y) > item.radius + other.radius


def test_relations_hold_clearly():
    seen = set()
    for scene in SCENES:
        if scene.relation is None:
            continue
        first, second = scene.groups[0].items[0], scene.groups[1].items[0]
        dx, dy = second.x - first.x, second.y - first.y
        along, across = (dx, dy) if scene.relation in ("left", "right") else (dy, dx)
        assert (along > 0.25) == (scene.relation in ("left", "above"))
        assert abs(along) > 0.25 > 0.14 > abs(across)
        seen.add(scene.relation)
    assert seen == {"left", "right", "above", "below"}


def test_a_shape_names_its_group_and_size_words_are_true():
    for scene in SCENES:
        assert len({group.shape for group in scene.groups}) == len(scene.groups)
        sizes = {size: [] for size in ("small", "middle", "big")}
        for group in scene.groups:
            sizes[group.size] += [item.radius for item in group.items]
        if sizes["small"] and sizes["big"]:
            assert min(sizes["big"]) > 1.3 * max(sizes["small"])


def test_all_layouts_occur():
    assert {tuple(group.count for group in scene.groups) for scene in SCENES} == set(LAYOUTS)


def test_a_good_share_of_scenes_is_plain_and_flat():
    plain = [scene for scene in SCENES if scene.background in BACKDROPS]
    flat = [scene for scene in plain if scene.style != Style()]
    assert 0.25 < len(plain) / len(SCENES) < 0.43
    assert 0.6 < len(flat) / len(plain) < 0.9
    bare = [scene for scene in flat if scene.style.outline == "none" and not scene.style.shadow]
    assert len(bare) > len(flat) / 2
    assert any(not scene.style.smooth for scene in flat)
    assert {"white", "black", "grey"} < {scene.background for scene in plain}
    assert any(scene.style != Style() for scene in SCENES if scene.background not in BACKDROPS)


def test_every_object_is_seen_before_its_background_without_an_outline():
    for scene in SCENES:
        for group in scene.groups:
            assert group.colour != scene.background
            assert contrast(group, scene.background, scene.phases) >= LEAST_CONTRAST


@pytest.mark.parametrize("radius", [0.12, 0.22])
def test_free_place_is_inside(radius):
    for index, scene in enumerate(SCENES[:30]):
        item = free_place(np.random.default_rng(index), scene, radius)
        assert radius < item.x < 1 - radius
        assert radius < item.y < 1 - radius
