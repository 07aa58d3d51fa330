"""The report's figures as inline SVG that follows the page's light or dark colours.

Matplotlib's SVG backend draws the figures and keeps text as text. Marker colours are then replaced
by CSS variables of the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cspine.core.labels import CLASS_NAMES
from cspine.evaluate.curves import Curve, Reliability
from cspine.evaluate.metrics import WidthBand
from cspine.stats.intervals import Interval

# The marker colours, which are replaced by the page's variables, so that one drawing suits both
# the light and the dark mode.
INK, GRID, BLUE, ORANGE = "#010101", "#020202", "#030303", "#040404"
VARIABLES = {INK: "--ink", GRID: "--line", BLUE: "--blue", ORANGE: "--orange"}
STYLE = Path(__file__).with_name("report.mplstyle")
SQUARE, WIDE = (4.6, 4.2), (6.0, 3.8)


def plot_roc(curve: Curve, auroc: Interval, name: str = "roc") -> str:
    """Return the ROC curve with its band as SVG; `name` must be unique on the page."""
    label = f"AUROC {auroc.value:.3f}"
    return _plot_curve(curve, label, (0, 1), "1 − specificity", "sensitivity", name)


def plot_precision_recall(curve: Curve, auprc: Interval, share: float) -> str:
    """Return the precision–recall curve with its band.

    `share` is the share of fractures, which is the precision by chance.
    """
    label = f"AUPRC {auprc.value:.3f}"
    return _plot_curve(curve, label, (share, share), "recall (sensitivity)", "precision", "pr")


@style.context(STYLE)
def _plot_curve(
    curve: Curve, label: str, chance: tuple[float, float], across: str, up: str, name: str
) -> str:
    """Return a curve with its band and the chance line, whose two ends are at `chance`."""
    figure, (axes,) = _figure(SQUARE)
    if np.isfinite(curve.low).any():
        axes.fill_between(curve.x, curve.low, curve.high, color=BLUE, alpha=0.18, linewidth=0)
    axes.plot(curve.x, curve.y, color=BLUE, label=label)
    axes.plot([0, 1], chance, color=GRID, linestyle="--", linewidth=1)
    _finish(axes, across, up)
    return _to_svg(figure, name)


@style.context(STYLE)
def plot_reliability(bins: Reliability, ece: Interval) -> str:
    """Return the share of fractures against the probability, in bins of equally many slices."""
    figure, (axes,) = _figure(SQUARE)
    axes.plot([0, 1], [0, 1], color=GRID, linestyle="--", linewidth=1)
    shares = map(Interval, bins.observed, bins.low, bins.high)
    label = f"ECE {ece.value:.3f}"
    _points(axes, bins.predicted, list(shares), fmt="o-", color=BLUE, label=label)
    _finish(axes, "predicted probability", "observed share of fractures")
    return _to_svg(figure, "reliability")


@style.context([STYLE, {"axes.grid": False}])
def plot_confusion(cells: np.ndarray) -> str:
    """Return the confusion matrix, int (2, 2): truth by row, answer by column."""
    figure, (axes,) = _figure((4.2, 3.4))
    # With shares per row, colour shows sensitivity and specificity, not how common a class is.
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    for (row, column), share in np.ndenumerate(shares):
        colour, opacity = BLUE if row == column else ORANGE, 0.15 + 0.6 * share
        left = column - 0.48
        axes.barh(row, 0.96, 0.96, left, linewidth=0, color=colour, alpha=opacity)
        words = f"{cells[row, column]}\n{100 * share:.1f} %"
        axes.text(column, row, words, ha="center", va="center", fontsize=13)
    axes.set(xticks=[0, 1], yticks=[0, 1], xticklabels=CLASS_NAMES, yticklabels=CLASS_NAMES)
    axes.set(xlabel="answer at the threshold", ylabel="truth", xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
    axes.tick_params(length=0)
    return _to_svg(figure, "confusion")


@style.context(STYLE)
def plot_widths(bands: Sequence[WidthBand]) -> str:
    """Return sensitivity at the threshold and AUROC by fracture width."""
    figure, (axes,) = _figure(WIDE)
    places = np.arange(len(bands))
    auroc, sensitivity = [b.auroc for b in bands], [b.sensitivity for b in bands]
    _points(axes, places - 0.09, auroc, fmt="o-", color=BLUE, label="AUROC")
    _points(axes, places + 0.09, sensitivity, fmt="s-", color=ORANGE, label="sensitivity")
    axes.set_xticks(places, [f"{b.name}\nn = {b.fractures}" for b in bands], fontsize=9.5)
    axes.set(ylim=(0, 1.03), xlabel="fracture width")
    axes.legend(loc="lower right", ncols=3)
    return _to_svg(figure, "widths")


@style.context(STYLE)
def plot_history(series: Mapping[str, Sequence[float]], name: str) -> str:
    """Return learning curves: one panel per quantity, each with training and validation."""
    wanted = ("loss", "auroc", "auc", "accuracy")
    bases = list(dict.fromkeys(key.removeprefix("val_") for key in series))
    bases = ([b for b in wanted if b in bases] or bases)[:2]
    figure, panels = _figure(WIDE if len(bases) > 1 else SQUARE, len(bases))
    curves = (("", BLUE, "-", "training"), ("val_", ORANGE, "--", "validation"))
    for axes, base in zip(panels, bases, strict=True):
        for prefix, colour, line, label in curves:
            # Epochs without a figure leave a gap in the curve.
            values = [np.nan if v is None else v for v in series.get(prefix + base, ())]
            if values:
                epochs = range(1, len(values) + 1)
                # A single epoch between gaps has no line to either side, but a dot shows it.
                axes.plot(epochs, values, line, marker=".", color=colour, label=label)
        axes.set(xlabel="epoch", title=base)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend()
    return _to_svg(figure, "history-" + name)


def _figure(size: tuple[float, float], panels: int = 1) -> tuple[Figure, list[Axes]]:
    # pyplot is not used, because it keeps every figure and may look for a display.
    figure = Figure(size, layout="constrained")
    FigureCanvasSVG(figure)
    return figure, list(np.atleast_1d(figure.subplots(1, panels)))


def _points(axes: Axes, x: np.ndarray, figures: Sequence[Interval], **look: Any) -> None:
    """Draw figures with their intervals; `look` is passed to Matplotlib's `errorbar`."""
    # A figure may be outside its own percentile interval, and Matplotlib refuses negative lengths.
    ends = np.array([[f.value - f.low, f.high - f.value] for f in figures]).T.clip(0)
    values = [figure.value for figure in figures]
    axes.errorbar(x, values, np.nan_to_num(ends), markersize=5, linewidth=1.2, **look)


def _finish(axes: Axes, across: str, up: str) -> None:
    axes.set(xlabel=across, ylabel=up, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(loc="best")


def _to_svg(figure: Figure, name: str) -> str:
    """Return the figure as an SVG element that takes its size and colours from the page."""
    stream = io.StringIO()
    # The figure is transparent, so that the light or dark background of the page shows through.
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    # With fixed ids and no date, the same inputs give the same page, byte for byte.
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    # Without its own size the figure takes the width of the page, also on a phone.
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    # An id that nothing refers to is removed, because every figure of the page would repeat it.
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    text = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
