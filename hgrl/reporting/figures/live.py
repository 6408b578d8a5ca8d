"""A picture that follows sliders."""

import io
from collections.abc import Callable
from typing import Any

from IPython.display import Image, display
from ipywidgets import Widget
from matplotlib.figure import Figure


def live(draw: Callable[..., Figure], **controls: Widget) -> None:
    """Show controls, and below them the picture that `draw` makes of their values, anew when one moves.

    The picture is an ordinary output: a copy of the notebook without a kernel still shows it as it was last.
    draw: called with each control's value by name."""

    def picture() -> Image:
        buffer = io.BytesIO()
        values: dict[str, Any] = {name: control.value for name, control in controls.items()}
        draw(**values).savefig(buffer, format="png", dpi=90)
        return Image(buffer.getvalue(), format="png")

    display(*controls.values())
    shown = display(picture(), display_id=True)
    for control in controls.values():
        control.observe(lambda _: shown.update(picture()), names="value")
