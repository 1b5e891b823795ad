"""The fixture ``energy_budget``, in real runs of pytest that find it by its entry point."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

import greenload as gl
from greenload.energy.figures import Figure
from greenload.report.data import Report

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, measured: Report) -> Run:
    """``run(code, *arguments)``: one test file beside the report old.json and new.json, whose decode costs twice."""
    for name in gl.__all__:  # modules that the inner pytest imports are dropped with it, and would then be there twice
        getattr(gl, name)
    source, decode, *rest = measured.steps
    dearer = replace(decode, cpu_s_per_sample=Figure(0.0017, 0.0016, 0.0018, "measured"))
    measured.save(pytester.path / "old.json")
    replace(measured, steps=(source, dearer, *rest)).save(pytester.path / "new.json")

    def run(code: str, *arguments: str) -> pytest.RunResult:
        head = "import time\nimport pytest\nfrom greenload.report.data import Report\nnew = Report.load('new.json')\n"
        pytester.makepyfile(head + code)
        # Each run would load hypothesis anew. And greenload is imported here already, which pytest may remark on.
        quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
        without = (*quiet, "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
        return pytester.runpytest_inprocess(*without, *arguments)

    return run


@pytest.mark.slow
def test_a_test_that_does_not_ask_for_it_pays_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        def test_lean(request):
            assert request.config.pluginmanager.hasplugin("greenload")
            heavy = {"greenload.report.budgets", "greenload.energy.sampler"}
            heavy |= {"numpy", "scipy", "tensorflow", "rich", "psutil"}
            assert not heavy & set(sys.modules)
        """
    )
    # Alone: plugins of others may import anything.
    done = pytester.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=1)


def test_pytest_lists_it_with_its_meaning(run: Run) -> None:
    run("", "--fixtures").stdout.fnmatch_lines(["energy_budget -- *", "*Hold a pipeline*against budgets*"])


def test_a_report_that_keeps_its_budget_passes_and_comes_back_with_its_checks(run: Run) -> None:
    done = run(
        """
def test_budget(energy_budget):
    report = energy_budget(new, "cpu_s_per_sample<=0.01", "energy_j_per_sample.cpu<=1")
    assert [(check.rule, check.outcome) for check in report.checks] == [
        ("cpu_s_per_sample<=0.01", "met"), ("energy_j_per_sample.cpu<=1", "met")]
"""
    )
    done.assert_outcomes(passed=1)


def test_an_exceeded_budget_fails_with_figure_interval_limit_and_step(run: Run) -> None:
    done = run(
        """
def test_budget(energy_budget):
    energy_budget(new, "cpu_s_per_sample<=0.002", "energy_j_per_sample.gpu:3<=1", "samples_per_s>=1")
""",
        "--tb=short",
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "*the energy budget isn't kept",
            "E*exceeded: cpu_s_per_sample<=0.002, found 0.0022* (0.0021* to 0.0022*): weighs most: Decode + crop, * %*",
            "E*missing: energy_j_per_sample.gpu:3<=1: nothing meters gpu:3, only *",
        ]
    )
    done.stdout.no_fnmatch_line("*samples_per_s>=1*, found*")
    # The place shown is the user's line, nothing of the plugin's.
    done.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_a_baseline_names_the_step_that_grew(run: Run) -> None:
    done = run(
        """
def test_grown(energy_budget):
    energy_budget(new, "cpu_s_per_sample<=0.002", baseline="old.json")
def test_allowed(energy_budget):
    energy_budget(new, baseline=Report.load("old.json"), tolerance=1.0)
"""
    )
    done.assert_outcomes(failed=1, passed=1)
    done.stdout.fnmatch_lines(
        [
            "E*exceeded: cpu_s_per_sample<=0.002*grew most: Decode + crop, by *",
            'E*exceeded: steps."Decode + crop".cpu_s_per_sample<=baseline, found 0.0017 (0.0016 to 0.0018): Decode*',
        ]
    )


def test_what_cannot_be_told_is_a_warning_that_can_be_made_to_fail(run: Run) -> None:
    code = """
def test_budget(energy_budget):
    energy_budget(new, f"cpu_s_per_sample<={new.total.cpu_s_per_sample.value!r}")
"""
    done = run(code)
    done.assert_outcomes(passed=1, warnings=1)
    done.stdout.fnmatch_lines(["*.py:7: UndecidedBudget: undecided: cpu_s_per_sample<=*--precision*"])
    strict = run(code, "-W", "error::greenload.pytest_plugin.UndecidedBudget")
    strict.assert_outcomes(failed=1)


def test_a_block_of_code_is_measured(run: Run) -> None:
    done = run(
        """
def test_cheap(energy_budget):
    with energy_budget("cpu_s<=1000", "energy_j.cpu<=1e6", "wall_s>=0.05") as window:
        time.sleep(0.05)
    assert window.wall_s >= 0.05 and window.energy_j
def test_dear(energy_budget):
    start = time.process_time()
    with energy_budget("cpu_s<=0.001"):
        while time.process_time() < start + 0.05:
            pass
def test_void(energy_budget):
    with energy_budget("energy_j.gpu:7<=1"):
        pass
def test_own_error(energy_budget):
    with energy_budget("cpu_s<=0"):
        raise KeyError("mine")
def test_never_entered(energy_budget):
    energy_budget("cpu_s<=0")
""",
        "--tb=short",
    )
    done.assert_outcomes(passed=2, failed=3, errors=1)
    done.stdout.fnmatch_lines(["*write `with energy_budget(rule):` around the code*"])
    done.stdout.fnmatch_lines(
        ["E*exceeded: cpu_s<=0.001, found 0.0*", "E*missing: energy_j.gpu:7<=1: *", "E*KeyError: 'mine'"]
    )
    done.stdout.no_fnmatch_line("*exceeded: cpu_s<=0,*")
    done.stdout.no_fnmatch_line("*contextlib*")


def test_wrong_use_is_told_before_anything_is_measured(run: Run) -> None:
    done = run(
        """
import greenload as gl
from greenload.errors import GreenloadError
train = gl.Pipeline(gl.Files(["a.jpg"]))
@pytest.mark.parametrize(("call", "says"), [
    ("energy_budget(new, 'cpu_s<=1')", "is of cpu_s_per_sample"),
    ("energy_budget('cpu_s_per_sample<=1')", "is of cpu_s, energy_j"),
    ("energy_budget(train, baseline=new, tolerance=5)", "a tolerance is a share, 0 to 1, found 5: write 0.05 for 5 %"),
    ("energy_budget(new)", "needs budgets or a baseline"),
    ("energy_budget('cpu_s<=1', baseline=new)", "has no baseline"),
    ("energy_budget(new, 'cpu_s_per_sample<=1', rounds=3)", "leave rounds out"),
    ("energy_budget(None, 'cpu_s_per_sample<=1', baseline='gone.json')", "gone.json: the report can't be read"),
    ("energy_budget(3, 'cpu_s_per_sample<=1')", "profile takes a Pipeline"),
    ("energy_budget(train, 'cpu_s_per_sample<=1', rounds=1)", "rounds at least 2, not 512 and 1"),
])
def test_wrong(energy_budget, call, says):
    with pytest.raises(GreenloadError, match=says):
        eval(call)
"""
    )
    done.assert_outcomes(passed=9)
