#!/usr/bin/env bash
# gpu_run.sh PARTS OUT [bench.gpu's arguments]: on a GPU machine without network, tests and bench of the GPU lowering.
# PARTS holds the chunks of an offline pack of DALI and its join.sh; OUT takes gpu.json, the logs and the machine's facts.
# It prints, of each primitive, how far it lay from the reference (pytest.log), and the bench's table (bench.log).
# Environment: TARGET, where to install (kept if it is there already); PYTHON; PYTEST_ARGS, pytest's further arguments.
# Without a GPU, GREENLOAD_GPU_REHEARSAL=1 and --cpu-rehearsal run the same on DALI's CPU operators.
set -uo pipefail
[ $# -ge 2 ] || { echo "usage: $0 PARTS OUT [arguments of bench.gpu]" >&2; exit 2; }
parts=$1 out=$2; shift 2
repo=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
target=${TARGET:-${TMPDIR:-/tmp}/greenload-offline}
mkdir -p "$out"
out=$(cd "$out" && pwd)

if [ ! -d "$target/nvidia/dali" ]; then
  bash "$parts/join.sh" "$parts" "$target" 2>&1 | tee "$out/join.log" || { echo "the pack can't be joined" >&2; exit 1; }
fi
export PYTHONPATH="$target:$repo:$repo/tests/support" PYTHONUNBUFFERED=1
nvidia-smi >"$out/nvidia-smi.txt" 2>&1 || echo "nvidia-smi can't be run" >&2

# The project's pytest settings name plugins that aren't here.
# shellcheck disable=SC2086
(cd "$repo" && "$python" -m pytest -c /dev/null --rootdir "$repo" --import-mode=importlib -p no:cacheprovider \
  -o "markers=gpu: needs an NVIDIA GPU" -o "addopts=" -m gpu -rs -s ${PYTEST_ARGS:-} tests/gpu) 2>&1 | tee "$out/pytest.log"
tests=${PIPESTATUS[0]}
(cd "$repo" && "$python" -m bench.gpu --out "$out/gpu.json" "$@") 2>&1 | tee "$out/bench.log"
bench=${PIPESTATUS[0]}
echo "pytest $tests, bench $bench: $out"
[ "$tests" -eq 0 ] && [ "$bench" -eq 0 ]
