"""The Prometheus endpoint, over real HTTP on loopback, read back with Prometheus' own parser."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")

from prometheus_client.parser import text_string_to_metric_families

from greenload.energy.emulators.replay_meter import ReplayMeter
from greenload.energy.meters.base import Channel, MeterStatus
from greenload.energy.meters.discover import discover
from greenload.energy.meters.model import ModelMeter
from greenload.energy.meters.process import ProcessMeter, ProcessReading
from greenload.energy.meters.storage import NVME, Disk
from greenload.energy.sampler import Sampler
from greenload.errors import UsageError
from greenload.report.checks import Check
from greenload.report.data import Report
from greenload.report.prometheus import Metrics, Server, serve
from greenload.system import endpoint
from greenload.system.endpoint import MOST, parse_address

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]
DOMAIN = "cpu:package-0"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def server(metrics: Metrics) -> Iterator[Server]:
    with serve(metrics, 0) as running:
        yield running


def scraped(server: Server) -> Values:
    with urllib.request.urlopen(server.url, timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    found: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert family.documentation and family.type in ("gauge", "counter")
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, "a series that comes twice is refused by Prometheus"
            found[key] = sample.value
    return found


def of(found: Values, name: str, **labels: str) -> list[float]:
    return [v for (n, has), v in found.items() if n == name and set(labels.items()) <= has]


def test_a_report_is_served_in_base_units_with_both_ends_of_each_interval(
    metrics: Metrics, server: Server, measured: Report
) -> None:
    metrics.show_report(measured)
    found = scraped(server)
    for step in measured.steps:
        name = {"pipeline": "imagenet:train", "step": step.name, "backend": "tf"}
        figure = step.cpu_s_per_sample
        base = "greenload_step_cpu_seconds_per_sample"
        assert of(found, base, **name) == [figure.value]
        assert of(found, f"{base}_low", **name) + of(found, f"{base}_high", **name) == [figure.low, figure.high]
        joules = step.energy_j_per_sample[DOMAIN]
        label = {"domain": DOMAIN, "provenance": "measured"}
        assert of(found, "greenload_step_energy_joules_per_sample", **name, **label) == [joules.value]
    assert of(found, "greenload_pipeline_cpu_seconds_per_sample") == [measured.total.cpu_s_per_sample.value]
    assert of(found, "greenload_unattributed_cpu_seconds_per_sample") == [measured.unattributed.cpu_s_per_sample.value]
    assert of(found, "greenload_pipeline_samples_per_second") == [measured.full.samples_per_s.value]
    assert of(found, "greenload_idle_power_watts", domain="gpu:0") == [measured.idle.power_w["gpu:0"].value]
    assert of(found, "greenload_profile_timestamp_seconds") == [1772366400.0]


def test_what_is_missing_is_absent_and_never_zero(metrics: Metrics, server: Server, measured: Report) -> None:
    missing = replace(measured.steps[0].cpu_s_per_sample, value=None, low=None, high=None)
    step = replace(measured.steps[0], cpu_s_per_sample=missing)
    metrics.show_report(replace(measured, steps=(step, *measured.steps[1:])))
    found = scraped(server)
    assert of(found, "greenload_step_cpu_seconds_per_sample", step=step.name) == []
    assert len(of(found, "greenload_step_cpu_seconds_per_sample")) == len(measured.steps) - 1
    assert not [name for name, _ in found if "reads" in name]


def test_labels_hold_anything_and_no_series_comes_twice(metrics: Metrics, server: Server, hostile: Report) -> None:
    twice = replace(hostile, steps=(*hostile.steps, hostile.steps[-1]), pipeline={"name": 'a "b"\\\n{x="y"}'})
    metrics.show_report(twice)
    found = scraped(server)
    assert of(found, "greenload_step_cpu_seconds_per_sample", step="Batch (2)", pipeline='a "b"\\\n{x="y"}')
    assert of(found, "greenload_step_cpu_seconds_per_sample", step=hostile.steps[0].name)


def test_budgets_are_served(metrics: Metrics, server: Server, measured: Report) -> None:
    check = Check("cpu_s_per_sample<=1", "met", 0.1, 0.1, 0.1, 1.0, "")
    metrics.show_report(replace(measured, checks=(check,)))
    assert of(scraped(server), "greenload_check", rule="cpu_s_per_sample<=1", outcome="met") == [1.0]


def replayed(counters: list[float | str]) -> Sampler:
    """A counter that wraps at 1 MJ, so seldom that only marks read it."""
    channel = Channel(DOMAIN, "measured", resolution_j=1e-6, wrap_j=1e6)
    return Sampler([ReplayMeter([channel], [{DOMAIN: value} for value in counters])], period_s=600)


STATUS = MeterStatus(DOMAIN, "measured", True, "a counter", "", "rapl")
ABSENT = MeterStatus("gpu", "measured", False, "no NVIDIA driver is loaded", "install it", "nvml")


def test_counters_run_on_across_a_wrap_and_stay_when_the_sampler_is_gone(metrics: Metrics, server: Server) -> None:
    # One reading as the sampler starts, one as it is attached, then one a scrape; the last as it is detached.
    with replayed([999999.900, 999999.990, 999999.995, 0.005, 0.007, 0.009]) as sampler:
        metrics.attach(sampler, [STATUS, ABSENT])
        seen = [of(scraped(server), "greenload_energy_joules_total", provenance="measured")[0] for _ in range(3)]
        assert seen == pytest.approx([0.005, 0.015, 0.017])
        metrics.detach()
    after = [scraped(server) for _ in range(2)]
    assert [of(one, "greenload_energy_joules_total")[0] for one in after] == pytest.approx([0.019, 0.019])
    assert of(after[0], "greenload_meter_usable", domain=DOMAIN, meter="rapl") == [1.0]
    assert of(after[0], "greenload_meter_usable", domain="gpu", meter="nvml") == [0.0]
    assert of(after[0], "greenload_meter_info", domain="gpu", reason="no NVIDIA driver is loaded") == [1.0]


def test_a_reset_is_a_gap_and_a_failing_counter_is_unusable_and_keeps_its_total(
    metrics: Metrics, server: Server
) -> None:
    # The fall to 0.003 would be a megajoule within milliseconds.
    with replayed([0.050, 0.050, 0.090, 0.003, "permission denied", 0.008]) as sampler:
        metrics.attach(sampler, [STATUS])
        found = [scraped(server) for _ in range(4)]
        metrics.detach()
    totals = [of(one, "greenload_energy_joules_total")[0] for one in found]
    assert totals == pytest.approx([0.040, 0.040, 0.040, 0.045])
    assert [of(one, "greenload_energy_gaps_total") for one in found] == [[0.0], [1.0], [1.0], [1.0]]
    assert [of(one, "greenload_meter_usable") for one in found] == [[1.0], [1.0], [0.0], [1.0]]
    assert of(found[2], "greenload_meter_info", reason="permission denied") == [1.0]


def test_a_domain_that_never_gave_a_figure_has_no_total(metrics: Metrics, server: Server) -> None:
    with replayed(["permission denied"] * 3 + [5.0, 5.25, "permission denied"]) as sampler:
        metrics.attach(sampler, [STATUS])
        found = [scraped(server) for _ in range(4)]
    totals = [of(one, "greenload_energy_joules_total") for one in found]
    assert totals == [[], [], [pytest.approx(0.25)], [pytest.approx(0.25)]], "the first reading starts the count"
    assert [of(one, "greenload_energy_gaps_total") for one in found] == [[], [], [0.0], [0.0]]


def test_a_model_without_its_input_is_a_gap_and_never_zero(metrics: Metrics, server: Server) -> None:
    class Counted(ProcessMeter):
        """Device bytes that the system tells only now and then."""

        bytes_read: list[int | None]

        def read(self) -> ProcessReading:
            read = self.bytes_read.pop(0)
            return replace(super().read(), device_read_bytes=read, device_written_bytes=0)

    process, model = Counted(), ModelMeter(["storage"], cpus=1, disks=[Disk("nvme0n1", NVME)])
    gigabyte = 10**9
    process.bytes_read = [None, None, 0, gigabyte, None, None]
    with Sampler([model], process, period_s=600) as sampler:
        metrics.attach(sampler, model.statuses())
        found = [scraped(server) for _ in range(5)]
    domain = {"domain": "storage:nvme0n1"}
    assert [of(one, "greenload_energy_joules_total", **domain) for one in found] == [[], [], [1.75], [1.75], [1.75]]
    # Twice before it was first told, then as it was lost, and since.
    assert [of(one, "greenload_energy_gaps_total", **domain) for one in found] == [[], [], [2.0], [3.0], [4.0]]
    assert [of(one, "greenload_meter_usable", **domain) for one in found] == [[0.0], [0.0], [1.0], [0.0], [0.0]]
    assert of(found[3], "greenload_meter_info", reason="what its model needs (device bytes) isn't told by this system")


def test_this_machines_meters_are_served(metrics: Metrics, server: Server) -> None:
    meters, statuses = discover()
    with Sampler(meters) as sampler:
        metrics.attach(sampler, statuses)
        first = scraped(server)
        sum(range(3_000_000))
        second = scraped(server)
        metrics.detach()
    for name in ("greenload_process_cpu_seconds_total", "greenload_energy_joules_total"):
        assert sum(of(second, name)) > sum(of(first, name)) >= 0
    domains = {dict(labels)["domain"] for name, labels in second if name == "greenload_energy_joules_total"}
    assert domains == set(sampler.channels)
    usable = {dict(labels)["domain"] for (name, labels), v in second.items() if name == "greenload_meter_usable" and v}
    assert domains <= usable


def test_a_sampler_that_stops_unannounced_leaves_what_was_seen(metrics: Metrics, server: Server) -> None:
    with replayed([0.0, 0.0, 0.004, 0.009]) as sampler:
        metrics.attach(sampler, [STATUS])
        assert of(scraped(server), "greenload_energy_joules_total") == [0.004]
    assert of(scraped(server), "greenload_energy_joules_total") == [0.004]


def test_scrapes_from_many_threads_while_figures_change(metrics: Metrics, server: Server, measured: Report) -> None:
    failures: list[BaseException] = []

    def scrape() -> None:
        try:
            for _ in range(5):
                assert of(scraped(server), "greenload_profile_progress_ratio")
        except BaseException as error:
            failures.append(error)

    metrics.progress(0.0)
    threads = [threading.Thread(target=scrape) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics.show_report(measured)
        metrics.progress(0.5)
    assert failures == []


def test_metrics_that_prometheus_would_misread_are_refused(metrics: Metrics) -> None:
    with pytest.raises(UsageError, match="ends in _total"):
        metrics.show("greenload_samples", "Samples.", [({}, 1.0)], "counter")
    with pytest.raises(UsageError, match="ends in _total"):
        metrics.show("greenload_samples_total", "Samples.", [({}, 1.0)])
    with pytest.raises(UsageError, match="same label names"):
        metrics.show("greenload_x", "X.", [({"a": "1"}, 1.0), ({"b": "1"}, 1.0)])


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        (9464, ("127.0.0.1", 9464)),
        ("0", ("127.0.0.1", 0)),
        (":80", ("127.0.0.1", 80)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_addresses(address: int | str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize(
    "address", ["", "x", "-1", -1, 65536, "localhost", "localhost:", "::1:80", "a:b:1", "1.5", "²"]
)
def test_bad_addresses(address: int | str) -> None:
    with pytest.raises(UsageError, match="PORT or HOST:PORT"):
        parse_address(address)


def test_a_taken_port_is_one_line(server: Server, metrics: Metrics) -> None:
    with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{server.port} can't be served on: .*name another port"):
        serve(metrics, server.port)
    with pytest.raises(UsageError, match=r"no-such-host\.invalid:0 can't be served on"):
        serve(metrics, "no-such-host.invalid:0")


def test_only_this_machine_can_scrape_unless_told_otherwise(metrics: Metrics) -> None:
    with serve(metrics, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
    with serve(metrics, "0.0.0.0:0") as server:
        assert server.server_address[0] == "0.0.0.0"


def test_a_closed_server_gives_its_port_back_and_leaves_no_thread(metrics: Metrics) -> None:
    server = serve(metrics, 0)
    server.close()
    server.close()
    assert not server.thread.is_alive()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", server.port))


def test_without_prometheus_client_it_says_what_to_install(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match=r"pip install 'greenload\[prometheus\]'"):
        serve(metrics, 0)


def asked(server: Server, request: bytes) -> tuple[int, bytes]:
    """Status and all of the answer to a request that was written by hand."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(request)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    return int(answer.split()[1]), answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET / HTTP/1.0\n\n", 200),
        (b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GARBAGE\r\n", 400),
        (b"\x16\x03\x01\x02\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET /\x1b HTTP/1.1\r\n\r\n", 400),
        (b"\r\n" * 3, 400),
        (b"x" * 20_000, 400),
        (b"GET /" + b"x" * 20_000, 400),
        (b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 400),
    ],
)
def test_requests_are_answered_by_their_rule(
    metrics: Metrics, server: Server, request_: bytes, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    metrics.progress(0.25)
    found, answer = asked(server, request_)
    assert found == status
    assert (b"greenload_profile_progress_ratio 0.25" in answer) == (status == 200 and not request_.startswith(b"HEAD"))
    assert capfd.readouterr() == ("", "")


def test_what_fails_inside_is_answered_and_the_next_scrape_works(
    metrics: Metrics, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    with replayed([0.0, 0.0, 0.001, 0.002]) as sampler:
        metrics.attach(sampler, [STATUS])
        metrics.show("greenload x", "Prometheus' format can't hold this help: \udc80", [({}, 1.0)])
        assert asked(server, b"GET / HTTP/1.1\r\n\r\n")[0] == 500
        metrics.show("greenload x", "", [])
        assert asked(server, b"GET / HTTP/1.1\r\n\r\n")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_labels_can_be_read_in_a_terminal(metrics: Metrics, server: Server) -> None:
    metrics.show("greenload_x", "X.", [({"path": "a\x1b[2J\x9b\u202e\udc80\nb"}, 1.0)])
    assert of(scraped(server), "greenload_x", path="a\\x1b[2J\\x9b\\u202e\\udc80\nb") == [1.0]


def files_open() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system doesn't tell which files are open")
def test_connections_that_ask_nothing_are_bounded_and_scrapes_go_on(metrics: Metrics, server: Server) -> None:
    metrics.progress(0.5)
    before, clients = files_open(), []
    try:
        for number in range(400):
            client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: " if number % 2 else b"")
            clients.append(client)
            if number % 100 == 99:
                assert of(scraped(server), "greenload_profile_progress_ratio") == [0.5]
        assert files_open() - before - len(clients) <= MOST
        assert threading.active_count() < 30
        begin = time.monotonic()
        server.close()
        assert time.monotonic() - begin < 1
        assert files_open() - before - len(clients) < 0, "its own are closed"
    finally:
        for client in clients:
            client.close()


@pytest.mark.slow
def test_who_sends_or_reads_too_slowly_is_cut_off(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "LONGEST_S", 0.5)
    metrics.show("greenload_x", "X.", [({"n": f"{n:0>200}"}, 1.0) for n in range(30_000)])
    with serve(metrics, 0) as server:
        slow = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        lazy = socket.socket()
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", server.port))
        lazy.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with slow, lazy:
            sent = 0
            with contextlib.suppress(OSError):
                while sent < 200:
                    slow.sendall(b"G" if sent == 0 else b"E")
                    sent += 1
                    time.sleep(0.05)
            assert 1 < sent < 200, "a byte now and then keeps nothing open"
            deadline = time.monotonic() + 20
            while server._open and time.monotonic() < deadline:
                time.sleep(0.05)
            taken = b""
            with contextlib.suppress(ConnectionError):
                taken = b"".join(iter(lambda: lazy.recv(65536), b""))
            assert len(taken) < 6_000_000, "what wasn't taken in time isn't sent"
