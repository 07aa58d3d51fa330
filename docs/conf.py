"""Sphinx's settings for `make docs`: Markdown pages, no asset from the network."""

import cspine

project = "cspine"
author = "the cspine authors"
project_copyright = f"{author}, Apache-2.0"
release = cspine.__version__

extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["README.md"]

html_theme = "pydata_sphinx_theme"
html_title = f"cspine {release}"
html_show_sourcelink = False
html_sidebars: dict[str, list[str]] = {"**": []}  # the header has all pages
html_theme_options = {"navbar_end": ["theme-switcher"], "secondary_sidebar_items": ["page-toc"]}
