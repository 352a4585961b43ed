"""Loss curves as inline SVG: one small chart per loss, no script."""

from __future__ import annotations

from collections.abc import Sequence

from dominate import svg
from dominate.tags import div, figcaption, figure, html_tag

WIDTH, HEIGHT, MARGIN = 360, 140, 18
MOST_POINTS = 500


def charts(lines: Sequence[dict[str, float]]) -> html_tag:
    """One chart for every key of the log lines but ``step``, ``epoch`` and ``kimg``."""
    names = sorted({name for line in lines for name in line} - {"step", "epoch", "kimg"})
    panel = div(cls="charts")
    for name in names:
        points = [(line["step"], line[name]) for line in lines if name in line]
        panel.add(_chart(name, points[:: -(-len(points) // MOST_POINTS)]))
    return panel


def _chart(name: str, points: list[tuple[float, float]]) -> html_tag:
    steps, values = [step for step, _ in points], [value for _, value in points]
    low, high = min(values), max(values)
    span_x, span_y = (steps[-1] - steps[0]) or 1, (high - low) or 1
    places = " ".join(
        f"{MARGIN + (step - steps[0]) / span_x * (WIDTH - 2 * MARGIN):.1f},"
        f"{HEIGHT - MARGIN - (value - low) / span_y * (HEIGHT - 2 * MARGIN):.1f}"
        for step, value in points
    )
    picture = svg.svg(viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{name} by step")
    picture.add(svg.polyline(points=places, fill="none", stroke="currentColor", stroke_width="1.5"))
    picture.add(svg.text(f"{high:.4g}", x=2, y=12))
    picture.add(svg.text(f"{low:.4g}", x=2, y=HEIGHT - 4))
    picture.add(svg.text(f"step {int(steps[-1])}", x=WIDTH - 2, y=HEIGHT - 4, text_anchor="end"))
    return figure(picture, figcaption(f"{name}: {values[-1]:.4g}"))
