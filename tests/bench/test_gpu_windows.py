"""GPU windows with aligned edges and without, in simulated time."""

from __future__ import annotations

from bench.gpu_windows import spread, window_errors


def test_the_benchmark_of_windows_tells_aligned_edges_from_others() -> None:
    plain, aligned = window_errors(False, windows=40), window_errors(True, windows=40)
    late = window_errors(True, windows=40, late_s=0.02)
    assert 0.02 < spread(plain.total) < 0.12 and spread(aligned.total) < 0.002
    assert spread(late.net) < 0.02
    assert plain.within.mean() >= 0.95 and aligned.within.all() and late.within.all()
    assert 0.02 < aligned.wait_s.mean() < 0.2
