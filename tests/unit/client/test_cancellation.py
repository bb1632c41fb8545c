import pytest

from leruli.cancellation import StoppedError, StopSwitch


def test_work_ends_at_its_next_report():
    seen = []
    switch = StopSwitch(seen.append)
    switch.advance(3)
    switch.switch_off()
    with pytest.raises(StoppedError):
        switch.advance(4)
    assert seen == [3]
