"""What ends a scenario."""


class Failure(Exception):
    """An assertion of the lab did not hold, in one line."""
