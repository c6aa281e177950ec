import itertools

import numpy as np
import pytest
import tensorflow as tf

from richhf.data.stream import (
    RECORD_NUMBER,
    RECORD_SEED,
    STREAM_POSITION,
    Position,
    RecordFile,
    StreamShare,
    endless,
    read_files,
    shuffled_files,
)

COUNTS = (7, 5, 9)
TOTAL = sum(COUNTS)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, numbers = tmp_path_factory.mktemp("files"), iter(range(TOTAL))
    for file, count in enumerate(COUNTS):
        with tf.io.TFRecordWriter(str(folder / f"{file}")) as writer:
            for number in itertools.islice(numbers, count):
                writer.write(f"{number}".encode())
    return [RecordFile(str(folder / f"{file}")) for file in range(len(COUNTS))]


@pytest.fixture
def stream(files):
    def read(count, *, index=0, hosts=1, start=None, seed=3, buffer=6):
        found = endless(
            lambda epoch: shuffled_files(files, buffer=buffer, seed=seed, epoch=epoch),
            lambda record: {"record": tf.strings.to_number(record, tf.int64)},
            seed,
            StreamShare(index, hosts, start or Position()),
        )
        return list(found.take(count).as_numpy_iterator())

    return read


def test_files_are_read_in_order_and_in_part(files):
    parts = [files[1], RecordFile(files[0].path, skip=2, take=3)]
    assert [int(record) for record in read_files(parts).as_numpy_iterator()] == [7, 8, 9, 10, 11, 2, 3, 4]


@pytest.mark.parametrize("buffer", [6, 1000])
def test_each_epoch_has_all_records_in_an_order_of_its_own(stream, buffer):
    found = [int(one["record"]) for one in stream(3 * TOTAL, buffer=buffer)]
    epochs = [found[start : start + TOTAL] for start in range(0, 3 * TOTAL, TOTAL)]
    assert all(sorted(epoch) == list(range(TOTAL)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [int(one["record"]) for one in stream(TOTAL, seed=4, buffer=buffer)] != epochs[0]


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_take_turns_in_the_one_stream(stream, hosts):
    """Over the ends of epochs too, which no number of hosts here divides."""
    whole = stream(15 * hosts)
    shares = [stream(15, index=index, hosts=hosts) for index in range(hosts)]
    dealt = [share[turn] for turn in range(15) for share in shares]
    for name in ("record", RECORD_SEED, RECORD_NUMBER):
        np.testing.assert_array_equal([one[name] for one in dealt], [one[name] for one in whole])
    assert [int(one[RECORD_NUMBER]) for one in whole] == list(range(15 * hosts))
    seeds = {tuple(one[RECORD_SEED]) for one in whole}
    assert len(seeds) == len(whole)
    assert min(map(min, seeds)) >= 0


@pytest.mark.parametrize("taken", [1, 13, TOTAL, TOTAL + 4, 2 * TOTAL - 1])
@pytest.mark.parametrize("buffer", [6, 1000])
def test_a_stream_goes_on_from_a_position_with_any_number_of_hosts(stream, taken, buffer):
    whole = stream(taken + 2 * TOTAL, buffer=buffer)
    start = Position(*map(int, whole[taken - 1][STREAM_POSITION]))
    assert start == Position((taken - 1) // TOTAL, (taken - 1) % TOTAL + 1, taken)
    shares = [stream(TOTAL, index=index, hosts=2, start=start, buffer=buffer) for index in range(2)]
    dealt = [share[turn] for turn in range(TOTAL) for share in shares]
    for name in ("record", RECORD_SEED, RECORD_NUMBER):
        np.testing.assert_array_equal([one[name] for one in dealt], [one[name] for one in whole[taken:]])
