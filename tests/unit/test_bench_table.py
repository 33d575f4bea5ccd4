"""Which release each side is fastest with, and what `station bench` makes of it."""

from station import bench_table
from station.bench import Bench, Row
from station.bench_side import Measured, Part


def side(ms: float) -> Measured:
    """Return a side whose part of 27 regions takes so long."""
    return Measured(parts=(Part(regions=1, full_ms=1.0, verdict_ms=1.0), Part(regions=27, full_ms=ms, verdict_ms=ms)))


def measured(*rows: Row) -> Bench:
    """Return a run of them."""
    return Bench(ask="pins", width_px=192, height_px=64, gpu=True, threads=1, limits=Measured(), rows=rows)


def test_each_side_is_compared_with_the_weights_that_are_fastest_for_it() -> None:
    bench = measured(
        Row(release="BF16", size_gib=22.8, station=side(500.0), stock=side(9000.0)),
        Row(release="Q4_0", size_gib=6.4, station=side(1000.0), stock=side(6000.0)),
    )
    assert bench_table.fastest(bench) == [
        "Fastest for the station: BF16, 500 ms a part.",
        "Fastest for the stock handler: Q4_0, 6000 ms a part.",
        "Each side with its own: 12.0 times faster.",
    ]


def test_what_could_not_be_measured_is_not_compared() -> None:
    rows = (
        Row(release="BF16", size_gib=22.8, station=None, stock=None, problem="no memory"),
        Row(release="Q4_0", size_gib=6.4, station=side(1000.0), stock=None),
    )
    assert bench_table.fastest(measured(*rows)) == ["Fastest for the station: Q4_0, 1000 ms a part."]
    assert bench_table.fastest(measured(rows[0])) == []
