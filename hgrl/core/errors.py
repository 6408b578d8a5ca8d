"""The one exception a user is meant to see, and its echo in other processes."""


class InputError(ValueError):
    """Bad input from outside: one line that names the file or setting and says what to do about it."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of a stack trace (an IPython hook)."""
        return [f"InputError: {self}"]


class ToldByFirst(InputError):
    """An error that all of several training processes have and the first one tells: the others end without
    repeating it."""
