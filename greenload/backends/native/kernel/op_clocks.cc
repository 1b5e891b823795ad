// Clocks around a function of a graph: what it costs where it runs, in CPU time and in wall time.
//
// GreenloadEnter stands in front: nothing of the function runs earlier. GreenloadLeave stands behind it. Edges of control
// tie the function to both: no tensor goes through them, nor from one to the other, since a tensor costs more than all
// else here. What Enter has to tell Leave waits with the thread, under the number of the function's call.
//
// A thread's CPU clock is a system call, of 0.3 to 13 µs by kernel and sandbox. So of a function that takes little more
// than that, only a part of the calls is timed, chosen at random. A call that ends on another thread than it began on is
// counted, but not timed; one that is timed stands for those that weren't chosen with it.
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "abi.h"
#include "operation.h"

namespace {

// Reading the clocks may take this part of what a function takes, unless kRarest is reached.
constexpr int64_t kShare = 64;
constexpr int64_t kRarest = 64;

int64_t now_of(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

int64_t this_thread() {
  static thread_local const int64_t number = syscall(SYS_gettid);
  return number;
}

struct Times {
  int64_t wall, cpu;
};

Times begun() {
  const int64_t wall = now_of(CLOCK_MONOTONIC);
  return {wall, now_of(CLOCK_THREAD_CPUTIME_ID)};
}

Times since(const Times& begin) {
  const int64_t cpu = now_of(CLOCK_THREAD_CPUTIME_ID);
  return {now_of(CLOCK_MONOTONIC) - begin.wall, cpu - begin.cpu};
}

// What the clocks say of nothing, which is the least that they were seen to say.
Times of_nothing() {
  static const Times least = [] {
    Times found = since(begun());
    for (int i = 0; i < 64; i++) {
      const Times again = since(begun());
      found = {std::min(found.wall, again.wall), std::min(found.cpu, again.cpu)};
    }
    return found;
  }();
  return least;
}

// One in so many, at random: elements may take turns.
bool chosen(uint32_t in) {
  static thread_local uint32_t state = static_cast<uint32_t>(this_thread()) * 2654435769u | 1;
  state ^= state << 13;  // Marsaglia, Xorshift RNGs, Journal of Statistical Software 8 (2003)
  state ^= state >> 17;
  state ^= state << 5;
  return state % in == 0;
}

// How many calls of a function one that is timed stands for.
int64_t weight_of(const gl_counter& so_far) {
  if (so_far.timed < kRarest) return 1;
  const int64_t mean = std::max<int64_t>(so_far.nanoseconds / so_far.timed, 1);
  return std::clamp<int64_t>(kShare * of_nothing().wall / mean, 1, kRarest);
}

// A call that is timed and hasn't ended on its thread. One that fails, or ends on another, stays until the next of its
// function.
struct Pending {
  size_t function;
  int64_t call, weight;
  Times begun;
};

// Several, since a function may read another dataset.
Pending* pending() {
  static thread_local Pending calls[8] = {};
  return calls;
}

Pending* pending_of(size_t function) {
  Pending* const end = pending() + 8;
  Pending* const found =
      std::find_if(pending(), end, [=](const Pending& one) { return one.function == function; });
  return found == end ? nullptr : found;
}

// Calls that are timed, of all threads, each where its number puts it, with its weight: so the end of one on another
// thread is told from a failure, which has none. What two put in one place is lost for the first.
constexpr uint64_t kWeights = 127;
std::atomic<uint64_t>& timed_call(uint64_t number) {
  static std::atomic<uint64_t> calls[1024] = {};
  return calls[number >> 54];
}

uint64_t number_of(size_t function, int64_t call) {
  return ((function ^ static_cast<uint64_t>(call)) * 0x9e3779b97f4a7c15u) & ~kWeights;
}

struct RowHandle {
  void operator()(gl_row* row) const { gl_row_close(row); }
};

struct Clock {
  std::unique_ptr<gl_row, RowHandle> row;
  size_t function = 0;  // a number for its name
  std::atomic<int64_t> weight{1};
  void read(Construction* c, Status* status) {
    int32_t list = 0, length = 0;
    TF_OpKernelConstruction_GetAttrSize(c, "counter", &list, &length, status);
    std::string name(TF_GetCode(status) == OK && length > 0 ? length : 0, '\0');
    if (TF_GetCode(status) == OK)
      TF_OpKernelConstruction_GetAttrString(c, "counter", &name[0], name.size(), status);
    if (TF_GetCode(status) != OK) return;
    row.reset(gl_row_open(name.c_str()));
    if (!row) TF_SetStatus(status, INVALID_ARGUMENT, "greenload: a counter's name is empty or too long");
    function = std::hash<std::string>{}(name) | 1;
  }
};

void enter(void* kernel, Context* context) {
  Clock& clock = *static_cast<Clock*>(kernel);
  const int64_t weight = clock.weight.load(std::memory_order_relaxed);
  if (!chosen(static_cast<uint32_t>(weight))) return;
  gl_counter so_far;
  gl_row_read(clock.row.get(), &so_far);
  clock.weight.store(weight_of(so_far), std::memory_order_relaxed);
  Pending* place = pending_of(clock.function);
  if (!place && !(place = pending_of(0))) place = pending();
  const int64_t call = TF_StepId(context);
  const uint64_t number = number_of(clock.function, call);
  timed_call(number).store(number | static_cast<uint64_t>(weight), std::memory_order_relaxed);
  *place = {clock.function, call, weight, begun()};
}

void leave(void* kernel, Context* context) {
  const Clock& clock = *static_cast<Clock*>(kernel);
  gl_counter counter{};
  counter.images = 1;
  const int64_t call = TF_StepId(context);
  Pending* const mine = pending_of(clock.function);
  if (mine && mine->call == call) {
    const Times taken = since(mine->begun), nothing = of_nothing();
    counter.nanoseconds = mine->weight * std::max<int64_t>(taken.cpu - nothing.cpu, 0);
    counter.wall_nanoseconds = mine->weight * std::max<int64_t>(taken.wall - nothing.wall, 0);
    counter.timed = mine->weight;
    mine->function = 0;
  } else {
    const uint64_t number = number_of(clock.function, call);
    const uint64_t timed = timed_call(number).load(std::memory_order_relaxed);
    if ((timed & ~kWeights) == number) counter.crossed = static_cast<int64_t>(timed & kWeights);
  }
  gl_row_add(clock.row.get(), &counter);
}

void no_shapes(ShapeContext*, Status*) {}

__attribute__((constructor)) void register_clocks() {
  if (!found_tensorflow() || gl_abi() != GL_ABI) return;
  Status* status = TF_NewStatus();
  add<Clock>("GreenloadEnter", enter, {}, {}, {"counter: string"}, no_shapes, status);
  if (TF_GetCode(status) == OK) add<Clock>("GreenloadLeave", leave, {}, {}, {"counter: string"}, no_shapes, status);
  TF_DeleteStatus(status);
}

}  // namespace
