// Clocks around a function of a graph: what it costs where it runs, in CPU time and in wall time.
//
// GreenloadEnter stands in front: nothing of the function runs earlier. GreenloadLeave stands behind it. Edges of control
// tie the function to both, so no tensor of it goes through them, and they have no state that a graph would have to keep.
//
// A thread's CPU clock is a system call, of 0.3 to 13 µs by kernel and sandbox. So of a function that takes little more
// than that, only a part of the calls is timed, chosen at random. A call that ends on another thread than it began on is
// counted, but not timed; one that is timed stands for those that weren't chosen with it.
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
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

struct RowHandle {
  void operator()(gl_row* row) const { gl_row_close(row); }
};

// What GreenloadEnter tells GreenloadLeave: nothing of a call that isn't timed.
struct Stamp {
  int64_t thread, weight;
  Times begun;
};
constexpr int64_t kStampFields = sizeof(Stamp) / sizeof(int64_t);

struct Clock {
  std::unique_ptr<gl_row, RowHandle> row;
  void read(Construction* c, Status* status) {
    int32_t list = 0, length = 0;
    TF_OpKernelConstruction_GetAttrSize(c, "counter", &list, &length, status);
    std::string name(TF_GetCode(status) == OK && length > 0 ? length : 0, '\0');
    if (TF_GetCode(status) == OK)
      TF_OpKernelConstruction_GetAttrString(c, "counter", &name[0], name.size(), status);
    if (TF_GetCode(status) != OK) return;
    row.reset(gl_row_open(name.c_str()));
    if (!row) TF_SetStatus(status, INVALID_ARGUMENT, "greenload: a counter's name is empty or too long");
  }
};

void enter(Clock& clock, Call& call) {
  gl_counter so_far;
  gl_row_read(clock.row.get(), &so_far);
  const int64_t weight = weight_of(so_far);
  const bool timed = chosen(static_cast<uint32_t>(weight));
  Tensor* out = call.output(0, INT64, {timed ? kStampFields : 0}, timed ? sizeof(Stamp) : 0);
  if (out && timed) *data_of<Stamp>(out) = {this_thread(), weight, begun()};
}

void leave(Clock& clock, Call& call) {
  const Tensor* in = call.input(0);
  if (!in) return;
  gl_counter counter{};
  counter.images = 1;
  if (TF_TensorElementCount(in) == kStampFields) {
    const Stamp& stamp = *data_of<Stamp>(in);
    if (stamp.thread == this_thread()) {
      const Times taken = since(stamp.begun), nothing = of_nothing();
      counter.nanoseconds = stamp.weight * std::max<int64_t>(taken.cpu - nothing.cpu, 0);
      counter.wall_nanoseconds = stamp.weight * std::max<int64_t>(taken.wall - nothing.wall, 0);
      counter.timed = stamp.weight;
    } else {
      counter.crossed = stamp.weight;
    }
  }
  gl_row_add(clock.row.get(), &counter);
}

void enter_shapes(ShapeContext* context, Status* status) {
  Shape* stamp = TF_ShapeInferenceContextVectorFromSize(context, -1);  // of no known size
  TF_ShapeInferenceContextSetOutput(context, 0, stamp, status);
  TF_DeleteShapeHandle(stamp);
}

void leave_shapes(ShapeContext*, Status*) {}

__attribute__((constructor)) void register_clocks() {
  if (!found_tensorflow() || gl_abi() != GL_ABI) return;
  Status* status = TF_NewStatus();
  add<Clock, enter>("GreenloadEnter", {"first: T"}, {"stamp: int64"}, {"T: type", "counter: string"}, enter_shapes,
                    status);
  if (TF_GetCode(status) == OK)
    add<Clock, leave>("GreenloadLeave", {"stamp: int64"}, {}, {"counter: string"}, leave_shapes, status);
  TF_DeleteStatus(status);
}

}  // namespace
