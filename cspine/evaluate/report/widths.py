"""The report's section of figures by fracture width, if widths are known, as for phantoms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from cspine.evaluate.metrics import WidthBand, auroc_by_width
from cspine.evaluate.report import plots, tables
from cspine.evaluate.report.card_text import SYNTHETIC, layout, site_of
from cspine.evaluate.report.inputs import SplitScores


def describe_widths(
    split: SplitScores, card: Mapping[str, Any], threshold: float
) -> dict[str, Any] | None:
    """Return the plot and the rows by fracture width, None if no width is known."""
    split = split.scored()
    if split.widths_mm is None or not np.isfinite(np.asarray(split.widths_mm, float)).any():
        return None
    bands = auroc_by_width(
        split.labels, split.probabilities, split.widths_mm, split.groups, threshold
    )
    narrow = [band for band in bands if np.isfinite(band.high_mm)]
    svg = plots.plot_widths(narrow) if narrow else ""
    return {
        "svg": Markup(svg),
        "alt": "AUROC and sensitivity by fracture width; the table below gives the same figures.",
        "rows": [_width_row(band) for band in bands],
        "is_phantom": _figures_layout(card) == SYNTHETIC,
    }


def _figures_layout(card: Mapping[str, Any]) -> str:
    """Return the layout of the images on which the page's figures were measured."""
    site = site_of(card)
    return layout(card) if site is None else str(site["layout"])


def _width_row(band: WidthBand) -> tables.Row:
    figures = (
        tables.figure(band.auroc),
        tables.figure(band.sensitivity),
        tables.Figure(str(band.fractures)),
        tables.Figure(f"{band.fractured_patients} of {band.patients}"),
    )
    return tables.Row((band.name,), figures)
