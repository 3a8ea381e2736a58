"""How a norm is drawn, as a small picture for legends and tables: its line with its marker."""

from __future__ import annotations

from normbench.charts.looks import DARK, DASHES, OUTLINES, Look

_WIDTH, _HEIGHT, _MARKER = 28, 14, 4.5


def swatch(look: Look) -> str:
    """Return a line with a marker as SVG, which a screen reader passes over; it has a colour for each ground."""
    face = "var(--ground)" if look.hollow else "currentColor"
    dash = " ".join(map(str, DASHES[look.line]))
    middle = f"translate({_WIDTH / 2:g} {_HEIGHT / 2:g}) scale({_MARKER})"
    return (
        f'<svg class="swatch" style="--light:{look.colour};--dark:{DARK[look.colour]}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true" focusable="false">'
        f'<path d="M1 {_HEIGHT / 2:g}H{_WIDTH - 1}" stroke-width="1.8" stroke-dasharray="{dash}"/>'
        f'<path d="{OUTLINES[look.marker]}" transform="{middle}" fill="{face}" stroke-width="0.3"/></svg>'
    )
