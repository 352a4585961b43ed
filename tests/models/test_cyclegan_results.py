"""The images that CycleGAN shows and stores."""

from __future__ import annotations

import pytest
import torch
from tiny import (
    build_translator,
    translation_batches,
)


def test_results_are_named_as_in_the_authors_code_in_each_direction() -> None:
    model = build_translator("cyclegan")
    batch = next(translation_batches(2))
    a, b, ab, ba = batch["a"], batch["b"], model.generator_ab, model.generator_ba
    expected = {
        "a_to_b": {"real_a": a, "fake_b": ab(a), "rec_a": ba(ab(a)), "idt_b": ba(a), "real_b": b},
        "b_to_a": {"real_b": b, "fake_a": ba(b), "rec_b": ab(ba(b)), "idt_a": ab(b), "real_a": a},
    }
    for direction, images in expected.items():
        torch.testing.assert_close(model.results(batch, direction), {k: v.detach() for k, v in images.items()})
        source, target = direction[0], direction[-1]
        alone = {source: batch[source], "name": batch["name"]}
        assert set(model.results(alone, direction)) == set(images) - {f"real_{target}"}


@pytest.mark.parametrize("identity", [0.5, 0.0])
def test_visuals_are_both_directions_without_targets(identity: float) -> None:
    model = build_translator("cyclegan", lambda_identity=identity)
    batch = next(translation_batches(2))
    names = ["real_a", "fake_b", "rec_a", "idt_b", "real_b", "fake_a", "rec_b", "idt_a"]
    shown = model.visuals(batch)
    assert list(shown) == [name for name in names if identity or not name.startswith("idt")]
    both = model.results(batch, "a_to_b") | model.results(batch, "b_to_a")
    torch.testing.assert_close(shown, {name: both[name] for name in shown}, atol=0, rtol=0)


def test_dropout_of_visuals_is_seeded_by_the_names_of_each_domain() -> None:
    model = build_translator("cyclegan", dropout=0.5)
    batch = next(translation_batches(2)) | {"name": ["x", "y"], "name_b": ["u", "v"]}
    shown = model.visuals(batch)
    of_b = model.results({"b": batch["b"], "name": ["u", "v"]}, "b_to_a")
    of_a = model.results({"a": batch["a"], "name": ["x", "y"]}, "a_to_b")
    torch.testing.assert_close(shown, {name: (of_a | of_b)[name] for name in shown}, atol=0, rtol=0)
    assert not torch.equal(shown["fake_a"], model.results({"b": batch["b"], "name": ["x", "y"]}, "b_to_a")["fake_a"])
