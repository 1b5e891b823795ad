"""The page's content: everything escaped, nothing from outside, and the figures those of the report."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources

import pytest
from hypothesis import Phase, assume, given, settings
from known_comparisons import comparison
from known_optimizations import optimization
from known_spans import fit_report
from report_strategies import reports

from greenload.energy.figures import Figure, scale, sum_figures
from greenload.errors import ReportError
from greenload.report.charts import step_charts, timeline
from greenload.report.comparison import compare
from greenload.report.data import Advice, Report, Skipped
from greenload.report.page import brief_spec
from greenload.report.terminal import report_text
from greenload.strategies.changes import changes, changes_html
from greenload.text import amount

pytest.importorskip("jinja2")

from greenload.report.html import compare_html, html

NOT_WORDS = re.compile(r".{,40}\b(?:nan|inf|None)\b.{,40}")


class Elements(HTMLParser):
    """Start tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_holds_no_reference_to_anything_outside(measured: Report) -> None:
    elements = Elements(html(measured))
    for tag, attributes in elements.tags:
        assert tag not in ("iframe", "object", "embed", "img", "base"), tag
        for name in ("src", "href", "action", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    policy = next(one for tag, one in elements.tags if one.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_all_pages_have_one_head_and_one_script(measured: Report, modelled: Report) -> None:
    pages = [html(measured), compare_html(measured, modelled), fit_report().html(), comparison().html()]
    pages += [changes_html(changes(comparison(), comparison())), optimization().html()]
    heads = [re.split("<title>.*</title>", page.partition("<body>")[0]) for page in pages]
    scripts = [page.rpartition("<script>")[2] for page in pages]
    assert all(head == heads[0] for head in heads) and len(heads[0]) == 2
    assert all(script == scripts[0] for script in scripts)
    sources = {one.name: one.read_text() for one in resources.files("greenload.report").iterdir() if one.is_file()}
    drawn = [name for name, source in sources.items() if name.endswith(".html") and "block content" in source]
    shown = {"page.html", "compare.html", "fit.html", "optimization.html", "strategies.html", "strategies_changes.html"}
    assert set(drawn) == {"frame.html", *shown}
    drawn.remove("frame.html")
    assert all(re.search("<html|<head>|<style|<script", sources[name]) is None for name in drawn)


def test_names_are_text_never_markup(hostile: Report) -> None:
    page = html(hostile)
    page.encode("utf-8")
    elements = Elements(page)
    assert [tag for tag, _ in elements.tags].count("script") == 2, "the windows' data and the page's own"
    assert not any(tag in ("img", "b") and "onerror" in attributes for tag, attributes in elements.tags)
    assert "<script>document.title='hacked'</script>" in elements.text, "shown as it is called"
    assert "\x1b" not in page


@pytest.mark.slow
@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(reports(), reports())
def test_any_report_makes_a_page_and_a_table(report: Report, other: Report) -> None:
    # Hypothesis is fond of such names.
    assume(not any(NOT_WORDS.search(json.dumps(one.to_dict(), ensure_ascii=False)) for one in (report, other)))
    for page in (html(report), html(report, other), report_text(report), report_text(compare(report, other))):
        page.encode("utf-8")
        shown = Elements(page).words if page.startswith("<!doctype") else [page]
        drawn = " ".join(re.findall(r'style="[^"]*"| d="[^"]*"', page))
        assert NOT_WORDS.findall(" ".join([*shown, drawn])) == []


def test_the_page_says_what_the_table_says(measured: Report, unexplained: Report) -> None:
    words = Elements(html(unexplained)).text
    assert words.index("Unattributed: 17 % of the CPU seconds") < words.index("512 samples")
    words = Elements(html(measured)).text
    assert "Unattributed:" not in words
    for expected in (
        "imagenet:train",
        "AMD EPYC 7B13",
        "unresolved",
        "storage mJ, modelled ±72 %",
        "idle floor",
        "Cache",
    ):
        assert expected in words


def test_what_is_measured_leads(measured: Report, modelled: Report) -> None:
    page = html(measured)
    assert page.index('id="energy-chart"') < page.index('id="cpu-chart"')
    page = html(modelled)
    assert page.index('id="cpu-chart"') < page.index('id="energy-chart"')
    assert "no RAPL zone" in page and "run on bare metal" in page


def headline(report: Report) -> list[tuple[str, str, str]]:
    return re.findall(r'class="card"><small>(.*?)</small><b>(.*?)</b><small>(.*?)</small>', html(report))


def test_a_gpus_counter_does_not_stand_for_the_processor(gpu_only: Report) -> None:
    """An idle GPU's joules are measured, and say nothing about the pipeline."""
    first, second, *_ = headline(gpu_only)
    assert first[0] == "CPU time per image"
    total = sum(one.value or 0.0 for one in gpu_only.total.energy_j_per_sample.values()) * 1e3
    assert float(second[1].split()[0]) == pytest.approx(total, rel=0.02) and total > 25
    assert second[2] == "cpu, dram, gpu, storage; idle floor included"
    page = html(gpu_only)
    chips = re.findall(r'<li><span class="swatch (.*?)"></span>(.*?)</li>', page)
    assert ("modelled", "cpu joules modelled ±40 %") in chips and ("measured", "gpu joules measured") in chips
    assert page.index('id="cpu-chart"') < page.index('id="energy-chart"')
    assert "joules of gpu; the processor has no readable counter, so CPU seconds come first" in page


def test_what_steps_counted_is_a_column_and_a_note(clocked: Report, measured: Report) -> None:
    page = html(clocked)
    (table,) = re.findall(r'<table class="figures">(.*?)</table>', page, re.DOTALL)
    heads = re.findall(r"<th scope=\"col\">(.*?)</th>", table)
    column = heads.index("CPU ms counted") - 1
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr class.*?</tr>", table, re.DOTALL)]
    assert [row[column] for row in rows] == ["", "0.600 ±0.012", "1.260 ±0.025", "0", "", "", "", ""]
    assert {len(row) for row in rows} == {len(heads) - 1}
    assert "It differs from the replay by more than both intervals" in page
    assert "in place" not in html(measured)


def test_the_plan_says_how_each_step_was_measured(measured: Report) -> None:
    first = replace(measured.steps[0], method="in place")
    page = html(replace(measured, steps=(first, *measured.steps[1:])))
    assert f"<small>{first.backend}, in place</small>" in page
    assert f"<small>{measured.steps[1].backend}, by {measured.steps[1].method}</small>" in page


def test_the_headline_sums_all_domains(measured: Report) -> None:
    first = headline(measured)[0]
    total = sum(one.value or 0.0 for one in measured.total.energy_j_per_sample.values()) * 1e3
    assert first[0] == "Energy per image" and float(first[1].split()[0]) == pytest.approx(total, rel=0.02)
    assert first[2] == "cpu, dram, gpu, storage; idle floor included"
    assert "cpu joules measured" in html(measured) and "storage joules modelled ±72 %" in html(measured)
    energy = {**measured.total.energy_j_per_sample, "gpu:0": Figure.missing()}
    total_without = replace(measured.total, energy_j_per_sample=energy)
    first = headline(replace(measured, total=total_without))[0]
    assert "gpu unknown and left out" in first[2] and "–" not in first[1]


def test_records_left_out_and_the_page_cache_are_said(measured: Report) -> None:
    skipped = tuple(Skipped(f"{index}.jpg", "truncated") for index in range(9))
    first = replace(measured.steps[0], device_bytes_per_sample=Figure(0.0, 0.0, 0.0, "measured"))
    words = Elements(html(replace(measured, skipped=skipped, steps=(first, *measured.steps[1:])))).text
    assert "Left out 0.jpg" in words and "4.jpg" in words and "5.jpg" not in words
    assert "… and 4 more (in the JSON)" in words
    assert "Files were read from the page cache" in words
    assert "page cache" not in Elements(html(measured)).text


def test_a_missing_library_is_one_line_with_the_remedy(measured: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ReportError, match=r"jinja2 is missing: pip install 'greenload\[report\]'"):
        html(measured)


def bars(page: str, chart: str) -> list[dict[str, str]]:
    """Each bar of a chart: the text of its parts, and their places in per cent."""
    part = page[page.index(f'<div id="{chart}">') :]
    part = part[: part.index("</ol>")]
    found = []
    for row in part.split("<li ")[1:]:
        value = re.search(r'class="value">(.*?)</span>', row)
        whisker = re.search(r'class="whisker" style="left:(.*?)%;width:(.*?)%"', row)
        found.append(
            {
                "value": value[1] if value else "",
                "spans": json.dumps(re.findall(r'class="seg (.*?)" style="left:(.*?)%;width:(.*?)%"', row)),
                "whisker": json.dumps(whisker.groups() if whisker else None),
                "tip": row.split('data-tip="')[1].split('"')[0],
            }
        )
    return found


def test_bars_and_whiskers_are_the_reports_figures(measured: Report) -> None:
    page = html(measured)
    cpu = next(chart for chart in step_charts(measured) if chart.name == "cpu-chart")
    rows = bars(page, "cpu-chart")
    assert len(rows) == len(measured.steps) + 1
    for step, row in zip(measured.steps, rows, strict=False):
        figure = scale(step.cpu_s_per_sample, 1e3)
        assert figure.value is not None and figure.low is not None and figure.high is not None
        assert row["value"] == amount(figure)
        (classes, left, width), *more = json.loads(row["spans"])
        assert classes == "cpu measured" and not more
        unit = 100 / (cpu.axis.high - cpu.axis.low)
        assert float(left) == pytest.approx((0 - cpu.axis.low) * unit, abs=0.01)
        assert float(width) == pytest.approx(figure.value * unit, abs=0.01)
        start, length = map(float, json.loads(row["whisker"]))
        assert start == pytest.approx((figure.low - cpu.axis.low) * unit, abs=0.01)
        assert length == pytest.approx((figure.high - figure.low) * unit, abs=0.01)
        assert f"({figure.low:.3g} to {figure.high:.3g}), measured" in row["tip"]


def test_joules_are_stacked_by_domain(measured: Report) -> None:
    rows = bars(html(measured), "energy-chart")
    step = measured.steps[1]
    classes = [classes for classes, _, _ in json.loads(rows[1]["spans"])]
    assert classes[:2] == ["cpu measured", "dram measured"]
    assert json.loads(rows[0]["spans"])[-1][0] == "storage modelled", "hatched: no counter is under it"
    sums = sum_figures(step.energy_j_per_sample.values(), common=True)
    assert rows[1]["value"] == amount(scale(sums, 1e3))


def test_what_is_below_zero_lies_left_of_it_and_is_explained(advised: Report, measured: Report) -> None:
    page = html(advised)
    (batch,) = [row for row in bars(page, "cpu-chart") if row["tip"].startswith("Batch")]
    ((_, left, width),) = json.loads(batch["spans"])
    zero = re.search(r'class="zero" style="left:(.*?)%"', page[page.index('<div id="cpu-chart">') :])
    assert zero is not None and float(left) + float(width) == pytest.approx(float(zero[1]), abs=0.01)
    assert "Below zero: Batch spares the steps before it" in page
    assert "Below zero" not in html(measured)


def test_advice_says_what_was_tried_and_what_only_worked_out(advised: Report, measured: Report) -> None:
    page = html(advised)
    tried, estimated = re.findall(r'<li class="(trial|estimate)">(.*?)</li>', page)
    assert tried[0] == "trial" and "measured in a trial" in tried[1]
    assert (
        "saves 0.60 ±0.05 CPU ms per sample (30 %)" in tried[1]
        or "saves 0.60 ±0.05 CPU ms per sample (27 %)" in tried[1]
    )
    assert "cpu 12.0 ±2.0 mJ measured" in tried[1]
    assert estimated[0] == "estimate" and "not told from zero" in estimated[1]
    assert page.index("Worth changing first") < page.index("The plan")
    assert measured.advice == () and "Worth changing first" not in html(measured)


def test_side_inputs_places_and_reads_are_shown(advised: Report, measured: Report) -> None:
    words = Elements(html(advised)).text
    assert "input masks" in words and "train.py:31" in words and "reads" in words
    assert "CPU ms per sample" in words and "CPU ms per image" not in words, "a dataset may hold anything"
    flow = html(advised).split('<ol class="flow">')[1]
    side = flow[flow.index('class="side"') : flow.index("</ol></li>")]
    assert side.count('class="box') == 2 and "train.py:31" in side and "Batch" not in side
    words = Elements(html(measured)).text
    assert "input masks" not in words and " reads" not in words


def test_the_flow_ends_at_the_model_with_what_crosses(measured: Report) -> None:
    planned = [{"name": step.name, "out": f"spec of {step.name}"} for step in measured.steps]
    flow = html(replace(measured, plan={**measured.plan, "steps": planned})).split('<ol class="flow">')[1]
    assert flow.count('class="box') == len(measured.steps) + 1
    assert "<span>spec of Decode + crop</span><span>190 kB</span>" in flow and flow.index("Batch") < flow.index(
        "the model"
    )


def test_a_box_says_no_more_than_the_table(measured: Report) -> None:
    unresolved = Figure(3e-4, -1e-4, 7e-4, "measured", unresolved=True)
    steps = (*measured.steps[:-1], replace(measured.steps[-1], cpu_s_per_sample=unresolved))
    boxes = html(replace(measured, steps=steps)).split('<ol class="flow">')[1].split('class="box')
    own = boxes[len(steps)]
    assert "<span>unresolved</span></small>" in own and "%" not in own
    assert all('class="share"' in one for one in boxes[1 : len(steps)])


@pytest.mark.parametrize("count", [1, 40])
def test_few_steps_and_many(measured: Report, count: int) -> None:
    steps = tuple(replace(measured.steps[1], name=f"step {k}") for k in range(count))
    page = html(replace(measured, steps=steps))
    assert len(bars(page, "cpu-chart")) == count + 1
    assert len(bars(page, "check-chart")) == 2
    assert len(page) < 400_000


def test_nothing_known_is_said_not_drawn(measured: Report) -> None:
    missing = Figure.missing()
    bare = replace(
        measured,
        meters=(),
        windows=(),
        steps=tuple(replace(step, cpu_s_per_sample=missing, energy_j_per_sample={}) for step in measured.steps),
        full=replace(measured.full, cpu_s_per_sample=missing, energy_j_per_sample={}, samples_per_s=missing),
        total=replace(measured.total, cpu_s_per_sample=missing, energy_j_per_sample={}),
        unattributed=replace(measured.unattributed, cpu_s_per_sample=missing, energy_j_per_sample={}),
        idle=replace(measured.idle, power_w={}, energy_j_per_sample={}),
    )
    page = html(bare)
    words = Elements(page).text
    assert "could not be checked" in words and "Power over time" not in words and "energy-chart" not in page
    assert 'class="seg' not in page and 'class="whisker' not in page


def test_power_is_of_the_time_in_which_its_joules_were_counted(measured: Report) -> None:
    """A slow counter's joules go on to its next refresh: over the window's own time they would be too many watts."""
    first, *others = measured.windows
    stretched = replace(first, energy_wall_ns={"gpu:0": 2 * first.wall_ns})
    found = timeline(replace(measured, windows=(stretched, *others)))
    assert found is not None
    watts = first.energy_j["gpu:0"] / (2 * first.wall_ns / 1e9)
    assert f"gpu {watts:.3g} W" in found.tips[0][2]


def test_power_over_time_is_joules_over_seconds(measured: Report, modelled: Report) -> None:
    found = timeline(measured)
    assert found is not None
    lane = next(lane for lane in found.lanes if lane.name == "cpu")
    first = measured.windows[0]
    height = re.match(r"M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)V", dict(lane.paths)["s0"])
    assert height is not None
    left, zero, top, right = map(float, height.groups())
    watts = first.energy_j["cpu:package-0"] / (first.wall_ns / 1e9)
    assert (zero - top) / 100 * (lane.axis.high - lane.axis.low) == pytest.approx(watts, rel=0.02)
    assert (right - left) / 1000 * found.axis.high == pytest.approx(first.wall_ns / 1e9, rel=0.02)
    assert len(found.tips) == len(measured.windows)
    idle = measured.idle.power_w["cpu:package-0"].value
    assert idle is not None and lane.idle == pytest.approx(100 * idle / lane.axis.high, rel=0.01)
    bare = timeline(modelled)
    assert bare is not None and bare.lanes[0].name == "CPUs busy", "measured before modelled"
    tip = bare.tips[0][2]
    window = modelled.windows[0]
    drawn = window.energy_j["cpu"] / (window.wall_ns / 1e9) + 1.48
    assert f"cpu {drawn:.3g} W" in tip, "a model is of this process: it stands on idle power"


def test_a_void_window_leaves_a_gap_not_a_zero(measured: Report) -> None:
    first = replace(measured.windows[0], void={"cpu:package-0": "suspended"})
    found = timeline(replace(measured, windows=(first, *measured.windows[1:])))
    whole = timeline(measured)
    assert found is not None and whole is not None
    counts = [
        dict(next(one for one in drawn.lanes if one.name == "cpu").paths)["s0"].count("M") for drawn in (found, whole)
    ]
    assert counts[0] == counts[1] - 1
    assert "cpu – W" in found.tips[0][2]


def test_windows_without_times_draw_nothing(make_report: Callable[..., Report]) -> None:
    report = make_report()
    untimed = replace(report, windows=tuple(replace(one, start_ns=None) for one in report.windows))
    assert timeline(untimed) is None and "Power over time" not in html(untimed)


def test_the_page_is_small(measured: Report) -> None:
    assert len(html(measured).encode()) < 150_000


def test_trials_are_drawn_apart_from_steps(measured: Report) -> None:
    trial = replace(measured.windows[-1], step="cache: decode", kind="with", samples=512)
    found = timeline(replace(measured, windows=(*measured.windows[:-1], trial)))
    assert found is not None
    assert "other" in dict(found.lanes[0].paths) and ("other", "a trial, paler with the change") in found.legend
    assert found.tips[-1][2].startswith("cache: decode, a trial: as it is")
    plain = timeline(measured)
    assert plain is not None and "other" not in dict(plain.lanes[0].paths)


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("uint8 ?×224×224×3 NHWC", "uint8 ?×224×224×3 NHWC"),
        ("TensorSpec(shape=(), dtype=tf.string, name=None)", "string"),
        ("TensorSpec(shape=(8,), dtype=tf.float32, name='x')", "float32 8"),
        (
            "{'a': TensorSpec(shape=(None, 224, 3), dtype=tf.uint8, name=None), 'b': RaggedTensorSpec(1)}",
            "{'a': uint8 ?×224×3, 'b': RaggedTensorSpec(1)}",
        ),
        ("TensorSpec(shape=<unknown>, dtype=tf.int64, name=None)", "int64 <unknown>"),
        ("x" * 300, "x" * 120 + " …"),
    ],
)
def test_specs_are_brief(spec: str, shown: str) -> None:
    assert brief_spec(spec) == shown


def test_a_remark_saves_nothing_and_says_so_nowhere(measured: Report) -> None:
    advice = Advice(
        title="Move flip behind the cache",
        detail="map(flip) at train.py:3 draws random numbers",
        method="estimate",
        saves_cpu_s_per_sample=Figure.missing(),
    )
    report = Report.from_dict(replace(measured, advice=(advice,)).to_dict())
    assert report.advice == (advice,) and advice.is_remark
    for page in (html(report), report_text(report, 80)):
        assert "Move flip behind the cache" in page and "train.py:3" in page
        assert "saves" not in page.partition("Worth changing first")[2].partition("train.py:3")[0]
