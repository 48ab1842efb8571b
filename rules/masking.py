"""Addresses and numbers as they may be shown and written down: enough to recognise, too little to use."""


def masked(address: str) -> str:
    """Return "a***@e***.am" of an e-mail address, two digits of a number, the first letter of anything else."""
    address = address.strip()
    name, at, domain = address.partition("@")
    if at:
        host, dot, top = domain.rpartition(".")
        return f"{name[:1]}***@{host[:1] if dot else domain[:1]}***{dot}{top if dot else ''}"
    digits = [character for character in address if character.isdigit()]
    if len(digits) >= 6:
        return f"***{''.join(digits[-2:])}"
    return f"{address[:1]}***"
