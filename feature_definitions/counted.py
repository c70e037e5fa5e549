"""Numbers of things as a sentence says them."""


def counted(number: int, noun: str) -> str:
    """So many of something whose plural ends in s: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
