"""The one exception that is meant to be read by the person at the keyboard."""


class UserError(Exception):
    """Something the user can put right; the message names what was given and what is legal."""
