"""What the user can mend: raised anywhere below the commands, printed by `main` as one sentence."""

FAILED = 1
USAGE = 2


class UserError(Exception):
    """A sentence that says what happened, to what, and what to do; and the exit code that goes with it."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
