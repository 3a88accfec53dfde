"""The secrets of links and browsers: how they are made and what they look like.

Both come from the operating system's generator; the database checks their format once more.
"""

import re
import secrets

REPORT_TOKEN = re.compile(r"[0-9a-f]{64}", re.ASCII)
CALCULATOR_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}", re.ASCII)


def new_report_token() -> str:
    """256 random bits as 64 lower-case hex characters (document 012)."""
    return secrets.token_hex(32)


def new_calculator_token() -> str:
    """192 random bits as 32 characters of URL-safe base64 (document 014)."""
    return secrets.token_urlsafe(24)
