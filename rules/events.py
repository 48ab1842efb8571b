"""Why an event of a provider was not believed, in the words that it is counted under."""

FORGED, STALE, REFUSED, UNMATCHED = "forged", "stale", "refused", "unmatched"


def kind_of_refusal(code: str) -> str:
    """Sort an adapter's code: a signature that is missing or wrong, one that is too old, or anything else."""
    if code == "timestamp_outside_tolerance":
        return STALE
    return FORGED if code.startswith("signature_") else REFUSED
