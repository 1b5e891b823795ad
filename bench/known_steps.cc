// An operation that burns a known CPU time on the thread that runs it, and counts what it burnt: for bench/known_steps.py.
#include <time.h>

#include <atomic>

#include "operation.h"

namespace {

constexpr int kSteps = 32;
constexpr int64_t kNoteEvery = 100'000;  // ns of CPU time: an emulated counter must see work while it is done
std::atomic<int64_t> own[kSteps];
std::atomic<std::atomic<int64_t>*> elsewhere[kSteps];  // where a step is counted instead
std::atomic<bool> empty[kSteps];

std::atomic<int64_t>& burnt(int64_t step) {
  std::atomic<int64_t>* count = elsewhere[step];
  return count ? *count : own[step];
}

int64_t cpu_now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

// Burns so many nanoseconds, and counts what it took.
void burn(int64_t step, int64_t nanoseconds) {
  if (empty[step]) {
    cpu_now();  // what of the first and of the last reading lies outside what they count
    return;
  }
  std::atomic<int64_t>& count = burnt(step);
  const int64_t begin = cpu_now();
  volatile uint64_t value = 88172645463325252ull;
  int64_t now = begin, counted = begin;
  while (now - begin < nanoseconds) {
    for (int i = 0; i < 200; i++) value = value * 6364136223846793005ull + 1442695040888963407ull;
    now = cpu_now();
    if (now - counted >= kNoteEvery) {
      count += now - counted;
      counted = now;
    }
  }
  count += now - counted;
}

struct Burn {
  int64_t step = 0;
  void read(Construction* c, Status* status) { TF_OpKernelConstruction_GetAttrInt64(c, "step", &step, status); }
};

void run(Burn& kernel, Call& call) {
  const Tensor* in = call.input(0);
  if (!in) return;
  int64_t sum = 0;
  for (int64_t i = 0; i < TF_TensorElementCount(in); i++) sum += data_of<int64_t>(in)[i];
  burn(kernel.step, sum);
  if (Tensor* out = call.output(0, INT64, {}, sizeof(int64_t))) *data_of<int64_t>(out) = 0;
}

void shapes(ShapeContext* context, Status* status) { TF_ShapeInferenceContextSetUnknownShape(context, status); }

__attribute__((constructor)) void register_burn() {
  if (!found_tensorflow()) return;
  Status* status = TF_NewStatus();
  add<Burn, run>("BenchBurn", {"nanoseconds: int64", "behind: T"}, {"nothing: int64"}, {"T: type", "step: int"}, shapes, status);
  TF_DeleteStatus(status);
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// For steps in Python.
EXPORTED void bench_burn(int64_t step, int64_t nanoseconds) { burn(step, nanoseconds); }

EXPORTED int64_t bench_burnt(int64_t step) { return burnt(step); }

// Counts a step in 8 aligned bytes from now on, as in the ledger of an emulated machine.
EXPORTED void bench_count_in(int64_t step, void* count) { elsewhere[step] = static_cast<std::atomic<int64_t>*>(count); }

// Whether calls of a step burn nothing from now on, and count nothing.
EXPORTED void bench_empty(int64_t step, int64_t on) { empty[step] = on != 0; }
