"""The one exception a user is meant to see."""


class InputError(ValueError):
    """Bad input from outside: one line that names the file or setting and says what to do about it."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of a stack trace (an IPython hook)."""
        return [f"InputError: {self}"]
