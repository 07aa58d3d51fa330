"""Token buckets: filled with time, charged and waited for."""

from cspine.serve.middleware.rate_limit import Rate


def test_a_bucket_fills_with_time():
    now = [0.0]
    rate = Rate(2.0, lambda: now[0])
    assert [rate.take(0) for _ in range(3)] == [0.0, 0.0, 0.5]
    now[0] = 0.5
    assert rate.take(0) == 0.0
    rate.charge(0, 3)
    assert rate.take(0) == 2.0
    free = Rate(None)
    free.charge(0, 99)
    assert free.take(0) == 0.0
