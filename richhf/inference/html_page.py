"""The frame of a page: one HTML file that needs nothing but itself, in light and dark colours."""

import html
import importlib.resources


def html_page(title: str, header: str, body: str, *, script: str) -> str:
    """A page with the styles and the script of this room embedded.

    Args:
      title: its headline, as text.
      header: what stands under the headline, as HTML.
      body: everything else, as HTML.
      script: name of the script beside this file.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)}</title><style>{_asset('report.css')}</style></head><body>"
        f'<header class="masthead"><p class="eyebrow">Rich human feedback</p><h1>{html.escape(title)}</h1>'
        f"{header}</header>{body}<script>{_asset(script)}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return importlib.resources.files("richhf.inference").joinpath(name).read_text(encoding="utf-8")
