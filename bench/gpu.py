"""greenload on a GPU against the same pipeline hand-written in DALI, side by side, without TensorFlow or network.

    python -m bench.gpu --out gpu.json [--data FOLDER] [--batch 64,256,512] [--hw-load 0,0.65,1.0] [--seconds 10]

Decode, RandomResizedCrop(224), flip and normalise, from files in the page cache to a tensor on the GPU. First idle
power and the pixels against the float64 reference; then each share for the hardware decoder at the middle batch size,
then at the best share the other batch sizes, uint8 output, and the same with ColorJitter, RandomRotation, GaussianBlur
and RandomErasing. Windows of the two alternate; the JSON is written after each. In the end it says of each setting
whether greenload is within 3 % of hand-written DALI, in images per second and in joules. Where TensorFlow and DALI's
plugin for it are there, ``greenload.load``'s dataset is a third contestant.

``--cpu-rehearsal`` runs the same code on DALI's CPU operators, to prove the script where there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.gpu_meter import Gpu, idle_w, machine, to_update
from bench.gpu_pixels import AUGMENTATIONS, DEGREES, ERASED, HUE_TURNS, JITTER, MEAN, SIGMA, STD, TAPS, pixels
from bench.gpu_rows import BY_HAND, GREENLOAD, IN_TENSORFLOW, Setting, Window, reach, summary, table
from greenload.backends import registry
from greenload.backends.dali import plugin
from greenload.backends.dali.base import Target
from greenload.loading.dataset import build_dataset
from greenload.loading.iterate import native_batches
from greenload.loading.load import device_of, resolve_order
from greenload.loading.read_ahead import READERS
from greenload.planning.choose import make_plan
from greenload.plans.pipeline import Pipeline
from greenload.sources import ImageFolder
from greenload.sources.samples import make_samples
from greenload.stages import (
    Batch,
    Decode,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Shuffle,
    ToDtype,
)
from greenload.system import file_output

FORMAT = "greenload.bench.gpu/1"
SIDE = 224
ENDLESS = 1_000_000  # epochs


def greenload_pipeline(folder: str, setting: Setting) -> Pipeline:
    """The contest as greenload says it."""
    norm = (ToDtype("float32", scale=True), Normalize(MEAN, STD)) if setting.dtype == "float32" else ()
    stages = (
        Shuffle(),
        Decode(),
        RandomResizedCrop(SIDE),
        *(AUGMENTATIONS if setting.augmented else ()),
        RandomHorizontalFlip(),
        *norm,
        Batch(setting.batch, drop_remainder=True),
    )
    return Pipeline(ImageFolder(folder), *stages, seed=7)


def greenload_batches(args: argparse.Namespace, folder: str, setting: Setting) -> Iterator[int]:
    """greenload's contestant: the number of images of each batch, which is on the device by then."""
    pipeline = greenload_pipeline(folder, setting)
    plan = make_plan(pipeline, args.backend, threads=args.threads, prefetch=args.in_flight)
    device = (None, None) if args.cpu_rehearsal else (args.device, setting.hw_load)
    for images, _labels in native_batches(plan, *resolve_order(plan), ENDLESS, *device):
        yield len(images)


def tensorflow_batches(args: argparse.Namespace, folder: str, setting: Setting) -> Iterator[int]:
    """The same as ``greenload.load`` gives it, with DALI as the last node."""
    plan = make_plan(greenload_pipeline(folder, setting), "dali", threads=args.threads, prefetch=args.in_flight)
    target = Target() if args.cpu_rehearsal else device_of(plan, args.device, setting.hw_load)
    for _images, labels in build_dataset(plan, *resolve_order(plan), ENDLESS, target):
        yield len(labels)


def without_tensorflow(args: argparse.Namespace) -> str:
    """Why there is no contestant in TensorFlow; empty if there is. Gives DALI room on TensorFlow's GPUs."""
    found = plugin.availability()
    if not found.usable:
        return f"{found.detail}; {found.remedy}"
    import tensorflow as tf

    seen = tf.config.list_physical_devices("GPU")
    for device in seen:
        tf.config.experimental.set_memory_growth(device, True)
    return "" if seen or args.cpu_rehearsal else "TensorFlow sees no GPU"


def handwritten_batches(args: argparse.Namespace, folder: str, setting: Setting) -> Iterator[int]:
    """The same as a DALI user writes it: DALI's reader, its random windows and flips, its fused operators."""
    from nvidia.dali import Pipeline as Graph
    from nvidia.dali import fn, types

    gpu = not args.cpu_rehearsal
    decoding: dict[str, Any] = {} if setting.hw_load is None or not gpu else {"hw_decoder_load": setting.hw_load}
    if gpu:
        decoding["jpeg_fancy_upsampling"] = True  # as greenload: equal pixels, equal work
    graph = Graph(
        batch_size=setting.batch,
        num_threads=args.threads,
        device_id=args.device if gpu else None,
        prefetch_queue_depth=args.in_flight,
        seed=7,
    )
    with graph:
        files, labels = fn.readers.file(file_root=folder, random_shuffle=True, initial_fill=1024, name="files")
        images = fn.decoders.image_random_crop(
            files,
            device="mixed" if gpu else "cpu",
            output_type=types.RGB,
            adjust_orientation=False,
            random_area=[0.08, 1.0],
            random_aspect_ratio=[3 / 4, 4 / 3],
            num_attempts=10,
            **decoding,
        )
        images = fn.resize(images, size=[SIDE, SIDE], interp_type=types.INTERP_LINEAR, antialias=True)
        if setting.augmented:
            images = handwritten_augmentations(images)
        flip = fn.random.coin_flip(probability=0.5)
        if setting.dtype == "float32":
            images = fn.crop_mirror_normalize(
                images,
                mirror=flip,
                mean=[255 * mean for mean in MEAN],
                std=[255 * std for std in STD],
                dtype=types.FLOAT,
                output_layout="HWC",
            )
        else:
            images = fn.flip(images, horizontal=flip)
        graph.set_outputs(images, labels)
    graph.build()
    while True:
        yield len(graph.run()[0])


def handwritten_augmentations(images: Any) -> Any:
    """greenload's ``AUGMENTATIONS`` as a DALI user writes them, each with one operator and DALI's random numbers."""
    from nvidia.dali import fn, types

    def uniform(low: float, high: float, count: int | None = None) -> Any:
        return fn.random.uniform(range=[low, high], **({"shape": [count]} if count else {}))

    images = fn.color_twist(
        images,
        brightness=uniform(1 - JITTER, 1 + JITTER),
        contrast=uniform(1 - JITTER, 1 + JITTER),
        saturation=uniform(1 - JITTER, 1 + JITTER),
        hue=uniform(-360 * HUE_TURNS, 360 * HUE_TURNS),
    )
    images = fn.rotate(
        images, angle=uniform(-DEGREES, DEGREES), keep_size=True, fill_value=0.0, interp_type=types.INTERP_LINEAR
    )
    images = fn.gaussian_blur(images, window_size=TAPS, sigma=uniform(*SIGMA))
    return fn.erase(
        images,
        anchor=uniform(0.0, 0.6, 2),
        shape=uniform(0.15, 0.6, 2) * fn.random.coin_flip(probability=ERASED),
        normalized=True,
        axis_names="HW",
        fill_value=0.0,
    )


CONTESTANTS: dict[str, Callable[[argparse.Namespace, str, Setting], Iterator[int]]] = {
    GREENLOAD: greenload_batches,
    BY_HAND: handwritten_batches,
    IN_TENSORFLOW: tensorflow_batches,
}


def measure(
    args: argparse.Namespace, gpu: Gpu, name: str, batches: Iterator[int], setting: Setting, turn: int
) -> Window:
    """One window: warmed up, begun and ended at an update of the energy counter."""
    done = 0

    def step() -> None:
        nonlocal done
        done += next(batches)

    warm = time.monotonic() + args.warm_up
    while time.monotonic() < warm or not done:
        step()
    energy = to_update(gpu, step)
    done, begin, cpu = 0, time.monotonic(), time.process_time()
    while time.monotonic() - begin < args.seconds:
        step()
    after = to_update(gpu, step)
    wall, cpu = time.monotonic() - begin, time.process_time() - cpu
    used = None if energy is None or after is None else after - energy
    return Window(name, setting, turn, done, wall, cpu, used, gpu.jpeg_percent())


def contest(args: argparse.Namespace, gpu: Gpu, folder: str, setting: Setting, keep: Callable[[Window], None]) -> None:
    """All contestants in alternating windows."""
    flows = {name: make(args, folder, setting) for name, make in CONTESTANTS.items() if name in args.contestants}
    try:
        for turn in range(args.rounds):
            for name in flows if turn % 2 == 0 else list(reversed(flows)):
                keep(measure(args, gpu, name, flows[name], setting, turn))
    finally:
        for flow in flows.values():
            flow.close()


def write(path: Path, content: dict[str, Any]) -> None:
    """Replace a file as a whole, so that a run cut short leaves the last state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file_output.write(path, json.dumps(content, indent=1) + "\n")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line's, completed."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--data", help="a folder of class folders of JPEGs; sample photographs if not given")
    parser.add_argument("--images", type=int, default=1024, help="how many sample photographs")
    parser.add_argument("--batch", default="64,256,512", help="batch sizes; the middle one meets every --hw-load")
    parser.add_argument("--hw-load", default="0,0.65,1.0", help="shares of JPEGs for the hardware decoder")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a window")
    parser.add_argument("--warm-up", type=float, default=1.5, help="seconds before each window")
    parser.add_argument("--rounds", type=int, default=2, help="windows of each contestant in each setting")
    parser.add_argument("--threads", type=int, help=f"DALI's threads, of both contestants; processors less {READERS}")
    parser.add_argument("--in-flight", type=int, default=3, help="batches in flight, of both contestants")
    parser.add_argument("--device", type=int, default=0, help="the GPU's number")
    parser.add_argument("--cpu-rehearsal", action="store_true", help="on DALI's CPU operators, without a GPU")
    args = parser.parse_args(argv)
    args.batch = [int(part) for part in args.batch.split(",")]
    args.hw_load = [None] if args.cpu_rehearsal else [float(part) for part in args.hw_load.split(",")]
    args.backend = "dali-cpu" if args.cpu_rehearsal else "dali"
    args.threads = args.threads or max(2, len(os.sched_getaffinity(0)) - READERS)
    return args


def main(argv: list[str] | None = None) -> int:
    """Run it; 1 if DALI can't run here."""
    args = arguments(argv)
    found = registry.get(args.backend).availability()
    if not found.usable:
        print(f"backend {found.name!r} can't run here: {found.detail}; {found.remedy}", file=sys.stderr)
        return 1
    with contextlib.ExitStack() as stack:
        folder = args.data
        if folder is None:
            folder = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "sample")
            print(f"making {args.images} sample photographs", flush=True)
            make_samples(folder, images=args.images)
        run(args, folder)
    return 0


def run(args: argparse.Namespace, folder: str) -> None:
    """The whole bench."""
    gpu = Gpu(args.device, wanted=not args.cpu_rehearsal)
    windows: list[Window] = []
    lacking = without_tensorflow(args)
    why_not = {IN_TENSORFLOW: lacking} if lacking else {}
    args.contestants = [name for name in CONTESTANTS if name not in why_not]
    settings = {key: value for key, value in vars(args).items() if key not in ("out", "data")}
    report: dict[str, Any] = {"format": FORMAT, "machine": machine(gpu), "settings": settings, "complete": False}
    report["idle_power_w"] = idle = idle_w(gpu, args.seconds)
    print(json.dumps(report["machine"]), f"idle power {idle} W", sep="\n", flush=True)
    report["pixels"] = pixels(folder, args.backend, args.threads, SIDE)
    for label, figures in report["pixels"].items():
        print(f"pixels, {label}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)

    def keep(window: Window) -> None:
        windows.append(window)
        report["windows"] = [asdict(each) for each in windows]
        report["summary"] = summary(windows, idle)
        write(args.out, report)
        rate, cpu_ms = window.images / window.wall_s, window.host_cpu_s / window.images * 1e3
        energy = (
            "no counter" if window.gpu_energy_j is None else f"{window.gpu_energy_j / window.images * 1e3:.3f} GPU mJ"
        )
        print(f"{window.setting}: {window.contestant} {rate:.0f}/s, {cpu_ms:.4f} CPU ms, {energy}", flush=True)

    middle = args.batch[len(args.batch) // 2]
    for load in args.hw_load:
        contest(args, gpu, folder, Setting(middle, "float32", load), keep)
    mine = [w for w in windows if w.contestant == GREENLOAD]
    best = max(mine, key=lambda w: w.images / w.wall_s).setting.hw_load
    for batch in (batch for batch in args.batch if batch != middle):
        contest(args, gpu, folder, Setting(batch, "float32", best), keep)
    contest(args, gpu, folder, Setting(middle, "uint8", best), keep)
    contest(args, gpu, folder, Setting(middle, "float32", best, augmented=True), keep)
    report["idle_power_with_context_w"] = idle_w(gpu, args.seconds)
    report["reach"] = reach(report["summary"], why_not, on_gpu=not args.cpu_rehearsal)
    report["complete"] = True
    write(args.out, report)
    print(table(report["summary"]), *report["reach"], sep="\n")


if __name__ == "__main__":
    sys.exit(main())
