"""What `EnergyCallback` tells: a report, TensorBoard, Prometheus, and what is wrong with its arguments."""

from __future__ import annotations

import json
import math
import socket
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from known_fits import PACKAGE, dataset, fit, known, small_model, value
from widths import assert_figures_are_whole

import greenload as gl
from greenload.energy.emulators.powercap import PowercapEmulator
from greenload.energy.emulators.replay_meter import ReplayMeter
from greenload.energy.meters.base import Channel
from greenload.energy.sampler import Sampler
from greenload.report.prometheus import Family, Metrics
from greenload.training.fit_report import fit_text


def test_scalars_for_tensorboard(tmp_path: Path) -> None:
    import tensorflow as tf

    energy = gl.EnergyCallback(known(), log_dir=tmp_path)
    fit(small_model(), dataset(lambda: None, samples=8), energy, epochs=2)
    written: dict[str, dict[int, float]] = {}
    for file in tmp_path.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for one in event.summary.value:
                assert one.metadata.plugin_data.plugin_name == "scalars"
                written.setdefault(one.tag, {})[event.step] = float(tf.make_ndarray(one.tensor))
    assert {"energy/total_j", "energy/waiting_j", "energy/waiting_s", "energy/loader_cpu_s"} <= set(written)
    for epoch, spent in enumerate(energy.epochs):
        assert written["energy/total_j"][epoch] == pytest.approx(value(spent.total.total_j))
        assert written["energy/waiting_j"][epoch] == pytest.approx(value(spent.waiting.total_j))


@pytest.mark.slow
def test_the_report_is_json_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PowercapEmulator(tmp_path / "powercap") as machine:
        energy = gl.EnergyCallback(known(), powercap_root=machine.root, idle_s=0.2)
        with pytest.raises(gl.UsageError, match="once a fit has ended"):
            _ = energy.report
        fit(small_model(), dataset(lambda: None, samples=8), energy, epochs=2)
    energy.report.save(tmp_path / "fit.json")
    data = json.loads((tmp_path / "fit.json").read_text())
    assert data["schema"] == "greenload.fit/1" and data["fit"]["samples"] == 16 and len(data["epochs"]) == 2
    assert data["fit"]["loader"]["energy_j"][PACKAGE]["provenance"] == "measured"
    told = fit_text(energy.report)
    for words in (
        "fit of small: 2 epochs, 4 batches, 16 samples",
        "  parse",
        "waiting for data",
        "epoch 2",
        "measured",
    ):
        assert words in told, told
    assert_figures_are_whole(partial(fit_text, energy.report))
    monkeypatch.setenv("COLUMNS", "40")
    assert str(energy.report) == fit_text(energy.report, 40)
    with pytest.raises(gl.ReportError, match="name a file in it"):
        energy.report.save(tmp_path)


def test_a_profile_that_claims_more_than_the_fit_used_is_said_first_and_not_split_by(tmp_path: Path) -> None:
    energy = gl.EnergyCallback(known(cpu_s=50.0), log_dir=tmp_path, port=0)
    history = fit(small_model(), dataset(lambda: None, samples=8), energy, epochs=2).history
    first, *rest = fit_text(energy.report, 1000).splitlines()
    assert first.startswith("the profile doesn't fit: 16 samples cost 800 CPU s by it, and ")
    assert not any("doesn't fit" in line or line.startswith(("loader  ", "model")) for line in rest)
    assert any(line.startswith("loader and model") for line in rest)
    for name in ("loader_j", "model_j", "loader_cpu_s"):
        assert len(history[name]) == 2 and all(math.isnan(one) for one in history[name])
    parts = shown(energy)["greenload_training_epoch_energy_joules"].values
    assert {labels["part"] for labels, _ in parts} == {"loader and model", "waiting", "idle"}
    assert "greenload_training_epoch_loader_energy_joules" not in shown(energy)
    energy.close()


def shown(energy: gl.EnergyCallback) -> dict[str, Family]:
    return {family.name: family for family in energy._metrics.families()}


def test_figures_for_prometheus() -> None:
    energy = gl.EnergyCallback(known(cpu_s=1e-5), port=0)  # no more than the fit uses
    fit(small_model(), dataset(lambda: None, samples=8), energy, epochs=2)
    assert energy._server is not None
    with urllib.request.urlopen(energy._server.url, timeout=30) as answer:
        served = answer.read().decode()
    assert "greenload_training_epochs_total 2.0" in served and "greenload_training_samples_total 16.0" in served
    assert 'greenload_training_epoch_total_energy_joules{domain="cpu",provenance="modelled"}' in served
    parts = shown(energy)["greenload_training_epoch_energy_joules"].values
    assert {labels["part"] for labels, _ in parts} == {"loader", "waiting", "model", "idle"}
    in_cpu = sum(joules for labels, joules in parts if labels["domain"] == "cpu")
    assert in_cpu == pytest.approx(value(energy.epochs[1].total.energy_j["cpu"])), "a sum counts nothing twice"
    energy.close()


def test_steps_of_a_watched_dataset_for_prometheus() -> None:
    energy = gl.EnergyCallback(port=0)
    data = gl.watch(dataset(lambda: None, samples=8).map(lambda image, label: (image * 2.0, label)))
    fit(small_model(), data, energy, epochs=2)
    first = shown(energy)
    own = f"{data.watched.number} {data.watched.name}".strip()
    calls = {
        step: count for (of, step), count in dict_of(first["greenload_training_step_calls_total"]).items() if of == own
    }
    assert calls["parse"] == 16 and len(calls) == 2
    assert "greenload_training_waiting_seconds" in first and "greenload_training_buffered_bytes" in first
    fit(small_model(), data, energy)
    for name in ("calls", "cpu_seconds", "waiting_seconds"):
        before, after = (dict_of(one[f"greenload_training_step_{name}_total"]) for one in (first, shown(energy)))
        assert all(after[key] >= seconds for key, seconds in before.items()), "a counter never falls"
    energy.close()


def dict_of(family: Family) -> dict[tuple[str, str], float]:
    return {(labels["dataset"], labels["step"]): number for labels, number in family.values}


@pytest.mark.slow
def test_what_an_epoch_does_not_know_is_served_as_nothing() -> None:
    energy = gl.EnergyCallback(known(), port=0)
    names = {"greenload_training_samples_total", "greenload_training_epoch_waiting_seconds"}
    data = dataset(lambda: None, samples=10)
    fit(small_model(), data, energy)
    assert names <= set(shown(energy))
    fit(small_model(steps_per_execution=3), data, energy)
    assert energy.report.fit.passed.samples is None and not names & set(shown(energy)), "not the first fit's"
    fit(small_model(), data, energy)
    assert names & set(shown(energy)) == {"greenload_training_epoch_waiting_seconds"}, "the second's samples lack"
    energy.close()


def test_counters_go_on_from_one_fit_to_the_next() -> None:
    metrics, channel = Metrics(), Channel(PACKAGE, "measured", resolution_j=1e-6, wrap_j=1e6)

    def total() -> float:
        (family,) = (one for one in metrics.families() if one.name == "greenload_energy_joules_total")
        return sum(joules for _, joules in family.values)

    def run(*counters: float) -> float:
        meter = ReplayMeter([channel], [{PACKAGE: joules} for joules in counters])
        with Sampler([meter], period_s=600) as sampler:
            metrics.attach(sampler, [])
            metrics.detach()
            metrics.detach()
        return total()

    assert run(5.0, 5.0, 7.0, 9.0) == pytest.approx(2.0), "the second detach counts no more"
    assert run(100.0, 100.0, 100.25) == pytest.approx(2.25)
    cpu_s = next(one for one in metrics.families() if one.name == "greenload_process_cpu_seconds_total").values[0][1]
    run(0.0, 0.0, 0.0)
    later = next(one for one in metrics.families() if one.name == "greenload_process_cpu_seconds_total").values[0][1]
    assert later >= cpu_s and total() == pytest.approx(2.25)


def test_a_port_is_had_before_the_profile_and_given_back_if_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def profiled(loader: Any) -> Any:
        asked.append(loader)
        raise gl.UsageError("no such pipeline")

    monkeypatch.setattr("greenload.training.callback.profile", profiled)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(gl.UsageError, match="can't be served on"):
            gl.EnergyCallback(3, port=port)  # type: ignore[arg-type]
    assert not asked
    with pytest.raises(gl.UsageError, match="no such pipeline"):
        gl.EnergyCallback(3, port=port)  # type: ignore[arg-type]
    gl.EnergyCallback(port=port).close()


def test_a_saved_profile_and_wrong_arguments(tmp_path: Path) -> None:
    known().save(tmp_path / "profile.json")
    assert gl.EnergyCallback(tmp_path / "profile.json").profile == known()
    with pytest.raises(gl.ReportError, match="can't be read"):
        gl.EnergyCallback(str(tmp_path / "none.json"))
    with pytest.raises(gl.UsageError, match="idle_s must be 0 or more"):
        gl.EnergyCallback(idle_s=-1)
    with pytest.raises(TypeError, match="powercap"):
        gl.EnergyCallback(powercap="/sys")
    with pytest.raises(gl.UsageError, match="profile takes"):
        gl.EnergyCallback(3)  # type: ignore[arg-type]
