#!/usr/bin/env python3
"""Draw docs/img/architecture.svg: the rooms of gantrain, from the layers that tests/test_house.py checks.

python scripts/draw_architecture.py
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = {  # What each does, in a few words.
    "api": "gantrain in Python",
    "cli": "parses commands, composes YAML",
    "train": "builds and resumes one run",
    "test": "images from a trained model",
    "predict": "a model applied to files",
    "evaluate": "metrics of runs and folders",
    "export": "writes other formats, compares",
    "benchmark": "speed and memory of steps",
    "doctor": "what is installed and found",
    "sweeps": "many runs, comparison",
    "papers": "experiments beside their papers",
    "migration": "commands of other tools",
    "exports": "one module per format",
    "benchmarking": "clock, counts, tables",
    "inference": "opens models, applies them",
    "training": "build, the loop, failures",
    "metrics": "features, distances, pairs",
    "models": "losses and training steps",
    "report": "logs, pages, loggers",
    "checkpoints": "file format, rotation, upgrades",
    "data": "from a file to a batch",
    "networks": "nn.Module classes",
    "optim": "optimizers, updates, averages",
    "registry": "names of classes, plug-ins",
    "config": "schemas, names, side files",
    "runtime": "processes, files, signals, seeds",
    "errors": "mistakes that users can correct",
}
HIDDEN = {"__init__", "__main__"}
# Drawn in another colour: the way in, and the files that connect rooms.
CONNECTING = {"api", "cli", "train", "test", "predict", "evaluate", "export", "doctor", "benchmark"}
WIDTH, HEIGHT, GAP, ROW = 230, 50, 14, 64
MOST = 4  # Boxes of a row; more are drawn in two rows.


def layers() -> list[list[str]]:
    """The layers from the top down, as the test of the house has them."""
    tree = ast.parse((ROOT / "tests/test_house.py").read_text(encoding="utf-8"))
    (value,) = (
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS"
    )
    rows = [[room for room in row if room not in HIDDEN] for row in reversed(ast.literal_eval(value))]
    return [row[start : start + MOST] for row in rows for start in range(0, len(row), MOST)]


def draw(rows: list[list[str]]) -> str:
    """The picture as SVG."""
    width, height = MOST * (WIDTH + GAP) + 60, len(rows) * ROW + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="The rooms of gantrain in layers; imports only point down" '
        'font-family="Helvetica, Arial, sans-serif">',
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 1 L9 5 L0 9 z" fill="#555"/></marker></defs>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#fff"/>',
        f'<line x1="24" y1="20" x2="24" y2="{height - 20}" stroke="#555" stroke-width="1.5" marker-end="url(#arrow)"/>',
        f'<text x="16" y="{height / 2}" font-size="13" fill="#333" text-anchor="middle" '
        f'transform="rotate(-90 16 {height / 2})">imports only point down</text>',
    ]
    for number, row in enumerate(rows):
        top = 20 + number * ROW
        left = 46 + (MOST - len(row)) * (WIDTH + GAP) / 2
        for place, room in enumerate(row):
            x = left + place * (WIDTH + GAP)
            is_file = (ROOT / f"gantrain/{room}.py").is_file()
            fill, stroke = ("#fdf3e1", "#c98a1b") if room in CONNECTING else ("#eaf1fb", "#3b6fb6")
            name = f"{room}.py" if is_file else room
            lines += [
                f'<rect x="{x}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="{fill}" stroke="{stroke}"/>',
                f'<text x="{x + WIDTH / 2}" y="{top + 21}" text-anchor="middle" font-size="16" font-weight="bold" '
                f'fill="#16324f">{name}</text>',
                f'<text x="{x + WIDTH / 2}" y="{top + 39}" text-anchor="middle" font-size="12" fill="#333">'
                f"{escape(ROOMS[room])}</text>",
            ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    (ROOT / "docs/img/architecture.svg").write_text(draw(layers()), encoding="utf-8")
