"""Draw the pictures of docs/scan-orders.md: `python docs/draw_scan_orders.py [folder]`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

from ssmvid.scan import AXES, CURVES, Grid, ScanOrder
from ssmvid.scan.naming import with_number

FOLDER = Path(__file__).parent / "scan-orders"
PANELS = {
    "8 x 8": Grid(1, 8, 8),
    "5 x 7": Grid(1, 5, 7),
    "3 frames of 4 x 4": Grid(3, 4, 4),
}
PICTURED = {"brick": (2, 2, 2)}  # numbers that show more on small grids than those of the papers
MODIFIED = ("thw+rev", "thw+flip_h", "twh+flip_w", "twh+snake2d")
COLOURS = LinearSegmentedColormap.from_list("steps", ["#109648", "#9aa51e", "#e8871e", "#cf1b2b"])
Point = tuple[float, float]


def names() -> list[str]:
    """Every axis order, one example of each modifier, every curve over thw."""
    curves = [with_number(stem, PICTURED.get(stem, curve.number)) for stem, curve in CURVES.items()]
    return [*AXES, *MODIFIED, *(f"thw+{curve}" for curve in curves)]


def place(grid: Grid, t: float, h: float, w: float) -> Point:
    """Where a token is drawn, y downwards: a frame face on, or slanted panes one behind another, time to the right."""
    return (w, h) if grid.t == 1 else (0.62 * w + 3.0 * t, h - 0.25 * w)


def draw(name: str) -> Figure:
    """The path of one order over each grid of `PANELS`."""
    figure = Figure(figsize=(8.0, 2.9), layout="constrained")
    panels = figure.subplots(1, len(PANELS), width_ratios=[1.0, 0.9, 1.25])
    for panel, (title, grid) in zip(panels, PANELS.items()):
        draw_path(panel, ScanOrder.parse(name), grid)
        panel.set_title(title, fontsize=9, color="#555555")
        panel.set_aspect("equal")
        panel.invert_yaxis()
        panel.margins(0.06)
        panel.axis("off")
    return figure


def draw_path(panel: Axes, order: ScanOrder, grid: Grid) -> None:
    """Steps to a neighbour as thick lines, jumps as thin ones; a green disc at the start, a red square at the end."""
    rows = order.indices(grid)
    tokens = [rows // (grid.h * grid.w), rows // grid.w % grid.h, rows % grid.w]
    points = [place(grid, *token) for token in zip(*(axis.tolist() for axis in tokens))]
    steps = sum(axis.diff().abs() for axis in tokens).tolist()
    last = len(points) - 1

    corners = ((-0.5, -0.5), (-0.5, grid.w - 0.5), (grid.h - 0.5, grid.w - 0.5), (grid.h - 0.5, -0.5))
    for t in range(grid.t):
        panel.fill(*zip(*(place(grid, t, h, w) for h, w in corners)), color="#f3f3f3", zorder=0)
    panel.scatter(*zip(*points), s=7, color="#b5b5b5", linewidths=0, zorder=1)
    panel.add_collection(
        LineCollection(
            [points[i : i + 2] for i in range(last)],
            colors=[COLOURS(i / last) for i in range(last)],
            linewidths=[2.2 if step == 1 else 0.7 for step in steps],
            capstyle="round",
            zorder=2,
        )
    )
    panel.scatter(*points[0], s=42, marker="o", color=COLOURS(0.0), zorder=3)
    panel.scatter(*points[last], s=36, marker="s", color=COLOURS(1.0), zorder=3)


def save(figure: Figure, path: Path) -> None:
    """A PNG of 256 colours: a third of the size, no visible difference."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    Image.open(buffer).convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in names():
        save(draw(name), folder / f"{name}.png")
        print(folder / f"{name}.png")
