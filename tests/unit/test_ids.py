"""Identifiers: unique between threads and processes, sorted by time."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from contracts.ids import LENGTH, moment_of, new_id


def test_ids_of_many_threads_differ() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [name for names in pool.map(lambda _: [new_id() for _ in range(5000)], range(8)) for name in names]
    assert len(set(made)) == len(made)
    assert {len(name) for name in made} == {LENGTH}


def test_later_ids_sort_later() -> None:
    first = new_id()
    time.sleep(0.002)
    assert first < new_id()


def test_a_child_process_makes_other_ids_than_its_parent() -> None:
    new_id()  # so that random bytes lie ready
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join(new_id() for _ in range(50)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(reading, 50 * LENGTH).decode()
    os.close(reading)
    os.close(writing)
    randoms = {told[place : place + LENGTH][10:] for place in range(0, len(told), LENGTH)}
    assert len(randoms) == 50
    assert not randoms & {new_id()[10:] for _ in range(500)}


def test_an_id_tells_when_it_was_made() -> None:
    before = time.time()
    made = moment_of(new_id())
    assert made is not None
    assert before - 0.002 <= made.timestamp() <= time.time()
    for other in ("", "invoice-17", "z" * LENGTH, "u" * LENGTH, new_id().upper(), new_id() + "0"):
        assert moment_of(other) is None
