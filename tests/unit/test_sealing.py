"""Encryption at rest: what one key sealed only that key opens, and no byte of it may change."""

import pytest

from db.sealing import BadKey, SealBroken, Sealer, new_key

OLD, NEW = new_key(), new_key()
SECRET = "Անի, +37410000000".encode()


def test_what_was_sealed_is_opened_and_cannot_be_read_or_compared() -> None:
    sealer = Sealer([NEW])

    first, second = sealer.seal(SECRET), sealer.seal(SECRET)

    assert sealer.open(first) == sealer.open(second) == SECRET
    assert first != second
    assert SECRET not in first


@pytest.mark.parametrize("raw", [b"", b"\x00\xff\x00", b"x" * 100_000])
def test_any_bytes_come_back(raw: bytes) -> None:
    sealer = Sealer([NEW])
    assert sealer.open(sealer.seal(raw)) == raw


def test_every_single_byte_is_guarded() -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal(SECRET)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(SealBroken):
            sealer.open(bytes(changed))


@pytest.mark.parametrize("length", [0, 1, 4, 5, 16, 17, 32])
def test_what_was_cut_off_is_refused(length: int) -> None:
    sealer = Sealer([NEW])
    with pytest.raises(SealBroken):
        sealer.open(sealer.seal(SECRET)[:length])


def test_keys_rotate() -> None:
    sealed = Sealer([OLD]).seal(SECRET)
    both = Sealer([NEW, OLD])

    assert both.open(sealed) == SECRET
    renewed = both.renew(sealed)
    assert Sealer([NEW]).open(renewed) == SECRET
    with pytest.raises(SealBroken):
        Sealer([OLD]).open(renewed)
    with pytest.raises(SealBroken):
        Sealer([NEW]).open(sealed)


NO_KEYS = {"empty": "", "short": "short", "odd": "x" * 44, "cut": NEW[:-4], "long": NEW + "AAAA", "letters": "é" * 22}


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key_is_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(BadKey) as caught:
        Sealer([key])
    assert not key or key not in str(caught.value)
