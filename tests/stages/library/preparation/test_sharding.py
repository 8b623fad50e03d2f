from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.library.preparation import sharding
from tests import sharded


@settings(max_examples=30)
@given(
    records=st.lists(sharded.RECORDS, max_size=8), shards=st.integers(1, 3), held_bytes=st.sampled_from([0, 1 << 20])
)
def test_records_come_out_of_the_spool_as_they_went_in(records, shards, held_bytes, tmp_path_factory):
    with mock.patch.object(sharding, "SPOOL_BYTES", held_bytes):
        spool = sharding.Spool(tmp_path_factory.mktemp("spool"), shards)
        for record in records:
            spool.add(record)
        found = list(spool.records())
    assert [record for _, record in sorted(found, key=lambda item: item[0])] == records
    assert spool.order().tolist() == [row for row, _ in found]
