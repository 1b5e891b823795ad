"""Ways in which a program ends while batches are being made: `python exit_forms.py BACKEND FORM FOLDER` runs one.

`FORMS` has each form's function, and how a process that runs it has to end. A form that is ended by a signal prints
`ready` first.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH = 16
held: Any = None
"""Outlives the form's function, as a global of a script does."""


@dataclass(frozen=True)
class Form:
    """One way to end."""

    run: Callable[[Any], None]
    status: tuple[int, ...] = (0,)
    """What the process may end with; a negative number is a signal's."""
    raises: str = ""
    """The error whose traceback is printed."""
    signal: str = ""
    """The signal that is sent once it is `ready`."""
    warned: bool = False
    """Whether TensorFlow's warnings are shown: it has some of its own, but none may be of what was closed."""


FORMS: dict[str, Form] = {}


def form(**how: Any) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Lists a function as a form, by its name."""

    def listed(run: Callable[[Any], None]) -> Callable[[Any], None]:
        FORMS[run.__name__] = Form(run, **how)
        return run

    return listed


def pipeline(folder: str = "") -> Any:
    import greenload as gl

    return gl.Pipeline(
        gl.ImageFolder(folder or sys.argv[3]),
        gl.Shuffle(),
        gl.Decode(),
        gl.RandomResizedCrop(160),
        gl.RandomHorizontalFlip(),
        gl.Batch(BATCH),
        seed=1,
    )


class Loader:
    """Makes datasets and iterators of a backend."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def dataset(self, **how: Any) -> Any:
        import greenload as gl

        return gl.load(pipeline(), self.backend, threads=2, **how)

    def iterate(self, epochs: int = 5) -> Any:
        import greenload as gl

        return gl.iterate(pipeline(), backend=self.backend, epochs=epochs, threads=2)


def begun(batches: Any, count: int = 2) -> Any:
    """Keep an iterator alive, and take some batches of it."""
    global held
    held = iter(batches)
    for _ in range(count):
        next(held)
    return held


# An iterator is left alive when the script ends: of a dataset itself, then of datasets derived from it.


@form()
def plain(load: Loader) -> None:
    begun(load.dataset())


@form()
def epochs(load: Loader) -> None:
    begun(load.dataset(epochs=50))


@form()
def unused(load: Loader) -> None:
    begun(load.dataset().repeat(), 0)


@form()
def repeat(load: Loader) -> None:
    begun(load.dataset().repeat())


@form()
def take(load: Loader) -> None:
    begun(load.dataset(epochs=50).take(100))


@form()
def skip(load: Loader) -> None:
    begun(load.dataset(epochs=50).skip(2))


@form()
def map_prefetch(load: Loader) -> None:
    begun(load.dataset(epochs=50).map(lambda image, label: (image, label)).prefetch(2))


@form()
def map_autotune(load: Loader) -> None:
    import tensorflow as tf

    auto = tf.data.AUTOTUNE
    begun(load.dataset(epochs=50).map(lambda image, label: (image, label), num_parallel_calls=auto).prefetch(auto))


@form()
def slow_map(load: Loader) -> None:
    """The user's step goes on for a while with what it was given before, and asks for the next batch late."""
    import tensorflow as tf

    def slow(image: Any, label: Any) -> Any:
        noise = tf.random.stateless_uniform([4_000_000], seed=(1, 2))
        return image, label + tf.cast(tf.reduce_max(tf.sort(noise)), label.dtype)

    begun(load.dataset(epochs=50).map(slow).prefetch(8), 1)


@form()
def ignore_errors(load: Loader) -> None:
    """What is refused is passed over for ever."""
    begun(load.dataset(epochs=50).ignore_errors().repeat())


@form()
def unbatch_rebatch(load: Loader) -> None:
    begun(load.dataset(epochs=50).unbatch().shuffle(64).batch(4))


@form()
def enumerate_(load: Loader) -> None:
    begun(load.dataset(epochs=50).enumerate())


@form()
def zip_(load: Loader) -> None:
    import tensorflow as tf

    begun(tf.data.Dataset.zip((load.dataset(epochs=50), load.dataset(epochs=50))))


@form()
def concatenate(load: Loader) -> None:
    begun(load.dataset(epochs=50).concatenate(load.dataset(epochs=50)))


@form()
def sample_from(load: Loader) -> None:
    import tensorflow as tf

    begun(tf.data.Dataset.sample_from_datasets([load.dataset(epochs=50), load.dataset(epochs=50)], [0.5, 0.5]))


@form()
def with_options(load: Loader) -> None:
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    begun(load.dataset(epochs=50).with_options(options))


@form()
def numpy_iterator(load: Loader) -> None:
    begun(load.dataset(epochs=50).as_numpy_iterator())


@form()
def numpy_iterator_repeat(load: Loader) -> None:
    begun(load.dataset().repeat().as_numpy_iterator())


@form()
def distributed(load: Loader) -> None:
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    begun(strategy.experimental_distribute_dataset(load.dataset(epochs=50)))


@form()
def optional(load: Loader) -> None:
    global held
    held = iter(load.dataset().repeat())
    held.get_next_as_optional()


@form()
def in_a_function(load: Loader) -> None:
    import tensorflow as tf

    global held
    held = load.dataset().repeat()

    @tf.function
    def count() -> Any:
        seen = tf.constant(0)
        for _, _ in held.take(4):
            seen += 1
        return seen

    count()


@form()
def class_attribute(load: Loader) -> None:
    global held

    class Holder:
        batches = begun(load.dataset().repeat())

    held = Holder


@form()
def cycle(load: Loader) -> None:
    global held

    class Node:
        pass

    node: Any = Node()
    node.itself = node
    node.batches = begun(load.dataset().repeat())
    held = None


@form()
def generator(load: Loader) -> None:
    def batches() -> Iterator[Any]:
        yield from load.dataset().repeat()

    begun(batches())


# The script ends by an exception, by sys.exit, or out of a fit.


@form(status=(1,), raises="ValueError: mine")
def error_in_loop(load: Loader) -> None:
    for place, _ in enumerate(load.dataset()):
        if place == 2:
            raise ValueError("mine")


@form(status=(1,), raises="ValueError: mine")
def error_in_derived_loop(load: Loader) -> None:
    for place, _ in enumerate(load.dataset().repeat()):
        if place == 2:
            raise ValueError("mine")


@form(status=(1,), raises="greenload.RecordError", warned=True)
def bad_record(load: Loader) -> None:
    """The batches behind the bad record are on their way through two backends."""
    folder = Path(tempfile.mkdtemp()) / "bad"  # removed behind the end: files are read until then
    shutil.copytree(sys.argv[3], folder)
    bad = sorted(folder.glob("*/*.jpg"))[11]
    bad.write_bytes(bad.read_bytes()[:3000])
    sys.argv[3] = str(folder)
    for _ in load.dataset(epochs=2):
        pass


@form(status=(7,))
def exit_in_loop(load: Loader) -> None:
    for place, _ in enumerate(load.dataset().repeat()):
        if place == 2:
            sys.exit(7)


def model() -> Any:
    import keras

    layers = [keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(20)]
    made = keras.Sequential([keras.Input((160, 160, 3)), *layers])
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


def raising(error: BaseException) -> Any:
    import keras

    class Raising(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 2:
                raise error

    return Raising()


@form()
def fit_steps(load: Loader) -> None:
    """Keras leaves the iterator of an endless dataset behind."""
    global held
    held = model()
    held.fit(load.dataset().repeat(), epochs=2, steps_per_epoch=3, verbose=0, shuffle=False)


@form()
def fit_validation(load: Loader) -> None:
    global held
    held = model()
    held.fit(load.dataset(), validation_data=load.dataset().repeat(), validation_steps=2, verbose=0, shuffle=False)


@form(status=(1,), raises="ValueError: mine")
def fit_error(load: Loader) -> None:
    model().fit(
        load.dataset().repeat(), steps_per_epoch=9, callbacks=[raising(ValueError("mine"))], verbose=0, shuffle=False
    )


@form(status=(-2,), raises="KeyboardInterrupt")
def fit_interrupt(load: Loader) -> None:
    model().fit(load.dataset(), callbacks=[raising(KeyboardInterrupt())], verbose=0, shuffle=False)


def ready() -> None:
    print("ready", flush=True)


@form(status=(-2,), raises="KeyboardInterrupt", signal="SIGINT")
def fit_sigint(load: Loader) -> None:
    made = model()
    begun(load.dataset())
    ready()
    made.fit(load.dataset().repeat(), epochs=10_000, steps_per_epoch=3, verbose=0, shuffle=False)


@form(status=(-2,), raises="KeyboardInterrupt", signal="SIGINT")
def energy_sigint(load: Loader) -> None:
    import greenload as gl

    made = model()
    begun(load.dataset())
    ready()
    made.fit(load.dataset(), epochs=10_000, verbose=0, shuffle=False, callbacks=[gl.EnergyCallback()])


@form(status=(-2,), raises="KeyboardInterrupt", signal="SIGINT")
def loop_sigint(load: Loader) -> None:
    for place, _ in enumerate(load.dataset(epochs=100_000)):
        if place == 2:
            ready()


@form(status=(-2,), raises="KeyboardInterrupt", signal="SIGINT")
def derived_loop_sigint(load: Loader) -> None:
    for place, _ in enumerate(load.dataset().repeat()):
        if place == 2:
            ready()


@form(status=(-15,), signal="SIGTERM")
def fit_sigterm(load: Loader) -> None:
    made = model()
    begun(load.dataset())
    ready()
    made.fit(load.dataset(), epochs=10_000, verbose=0, shuffle=False)


# Threads: a daemon's is cut off by the end, any other goes on until it is done.


def in_thread(work: Callable[[threading.Event], None], daemon: bool) -> threading.Event:
    seen = threading.Event()
    threading.Thread(target=work, args=(seen,), daemon=daemon).start()
    return seen


@form()
def daemon_thread(load: Loader) -> None:
    def work(seen: threading.Event) -> None:
        for place, _ in enumerate(load.dataset(epochs=100_000)):
            if place == 2:
                seen.set()

    in_thread(work, daemon=True).wait()


@form()
def daemon_thread_derived(load: Loader) -> None:
    def work(seen: threading.Event) -> None:
        for place, _ in enumerate(load.dataset().repeat()):
            if place == 2:
                seen.set()

    in_thread(work, daemon=True).wait()


@form()
def daemon_thread_iterate(load: Loader) -> None:
    def work(seen: threading.Event) -> None:
        for place, _ in enumerate(load.iterate(epochs=100_000)):
            if place == 2:
                seen.set()

    in_thread(work, daemon=True).wait()


@form()
def thread(load: Loader) -> None:
    """It works on after the main thread's end."""

    def work(seen: threading.Event) -> None:
        for place, _ in enumerate(load.dataset(epochs=4)):
            if place == 0:
                seen.set()
                threading.main_thread().join()
        print("all", place + 1 == len(load.dataset(epochs=4)), flush=True)

    in_thread(work, daemon=False).wait()


@form()
def thread_iterate(load: Loader) -> None:
    def work(seen: threading.Event) -> None:
        batches = load.iterate(epochs=4)
        for place, _ in enumerate(batches):
            if place == 0:
                seen.set()
                threading.main_thread().join()
        print("all", place + 1 == len(batches), flush=True)

    in_thread(work, daemon=False).wait()


@form()
def at_exit(load: Loader) -> None:
    """A function of the user's takes one more when the script has ended."""
    batches = begun(load.dataset().repeat())
    atexit.register(lambda: print("all", len(next(batches)[1]) == BATCH, flush=True))


@form()
def daemon_joined_at_exit(load: Loader) -> None:
    """A function registered before greenload's own joins a thread that is cut off."""
    stop = threading.Event()

    def work(seen: threading.Event) -> None:
        for place, _ in enumerate(load.iterate(epochs=100_000)):
            if place == 2:
                seen.set()
            if stop.is_set():
                return

    seen = threading.Event()
    worker = threading.Thread(target=work, args=(seen,), daemon=True)

    def end() -> None:
        stop.set()
        worker.join(60)
        print("all", not worker.is_alive(), flush=True)

    atexit.register(end)
    worker.start()
    seen.wait()


# iterate


@form()
def iterate(load: Loader) -> None:
    begun(load.iterate())


@form(status=(1,), raises="ValueError: mine")
def iterate_error(load: Loader) -> None:
    for place, _ in enumerate(load.iterate()):
        if place == 2:
            raise ValueError("mine")


@form(status=(-2,), raises="KeyboardInterrupt", signal="SIGINT")
def iterate_sigint(load: Loader) -> None:
    for place, _ in enumerate(load.iterate(epochs=100_000)):
        if place == 2:
            ready()


@form()
def iterate_from_generator(load: Loader) -> None:
    import tensorflow as tf

    signature = (tf.TensorSpec((None, 160, 160, 3), tf.uint8), tf.TensorSpec((None,), tf.int64))
    begun(tf.data.Dataset.from_generator(load.iterate, output_signature=signature).prefetch(2))


@form()
def iterate_at_exit(load: Loader) -> None:
    """Begun when the script has ended."""
    import greenload as gl

    def late() -> None:
        try:
            print("all", len(next(begun(load.iterate(epochs=100_000), 1))[1]) == BATCH, flush=True)
        except gl.BackendUnavailable as error:
            print("all", "main thread has ended" in str(error), flush=True)

    atexit.register(late)


# Processes


def forked(keep: Any) -> None:
    child = os.fork()
    if not child:
        sys.exit(0)
    end = time.monotonic() + 100  # an end takes a second of CPU time or more, which a busy machine gives in 20
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            print("all", status == 0, flush=True)
            return
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    print("all False: the child hangs", flush=True)


@form()
def fork_exit(load: Loader) -> None:
    forked(begun(load.dataset()))


@form()
def fork_exit_derived(load: Loader) -> None:
    forked(begun(load.dataset().repeat()))


@form()
def fork_exit_iterate(load: Loader) -> None:
    forked(begun(load.iterate()))


@form()
def fork_exit_local(load: Loader) -> None:
    """The child's `SystemExit` frees what only functions refer to, before it calls any function of `atexit`."""
    batches = iter(load.dataset().repeat())
    next(batches)
    forked(batches)


def child_begins(backend: str, folder: str, derived: bool) -> None:
    import greenload as gl

    dataset = gl.load(pipeline(folder), backend, threads=2)
    begun(dataset.repeat() if derived else dataset)


@form()
def spawn_child(load: Loader) -> None:
    """The child ends with an iterator alive, and its parent joins it."""
    process = multiprocessing.get_context("spawn").Process(target=child_begins, args=(load.backend, sys.argv[3], True))
    process.start()
    process.join(60)
    print("all", process.exitcode == 0, flush=True)
    process.kill()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is begun without
    FORMS[sys.argv[2]].run(Loader(sys.argv[1]))
    print("done", flush=True)
