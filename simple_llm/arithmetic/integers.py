"""Python's whole numbers. Without numpy: the config counts digits before anything slow is imported."""


def digit_count(value: int, base: int) -> int:
    """Count the digits of a whole number: 0 has one, 9999 has four in base 16."""
    count = 1
    while value >= base:
        value //= base
        count += 1
    return count
