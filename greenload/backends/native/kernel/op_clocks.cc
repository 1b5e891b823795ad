// Clocks around a function of a graph: what it costs where it runs, in CPU time and in wall time.
//
// GreenloadEnter stands in front: all that the function takes goes through it, so that nothing of the function runs
// earlier. GreenloadLeave stands behind: it waits for all that the function gives. Both only pass tensors on, so they
// have no state that a graph would have to keep, and no optimisation of graphs may leave them out.
//
// A thread's CPU clock is a system call, so a function of some microseconds is timed only now and then. A call that ends
// on another thread than it began on is counted, but not timed.
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "abi.h"
#include "operation.h"

namespace {

// Of a function that takes less CPU time than this, one call in so many is timed.
constexpr int64_t kQuick = 50'000;
constexpr uint32_t kSampled = 8;

int64_t now_of(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

int64_t this_thread() {
  static thread_local const int64_t number = syscall(SYS_gettid);
  return number;
}

// One in so many, at random: elements may take turns.
bool chosen(uint32_t in) {
  static thread_local uint32_t state = static_cast<uint32_t>(this_thread()) * 2654435769u | 1;
  state ^= state << 13;  // Marsaglia, Xorshift RNGs, Journal of Statistical Software 8 (2003)
  state ^= state >> 17;
  state ^= state << 5;
  return state % in == 0;
}

struct RowHandle {
  void operator()(gl_row* row) const { gl_row_close(row); }
};

// What GreenloadEnter tells GreenloadLeave.
struct Stamp {
  int64_t thread;  // kUntimed: this call isn't timed
  int64_t cpu, wall;
};
constexpr int64_t kUntimed = -1;
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

// ---- GreenloadEnter: in front of the function

void enter(Clock& clock, Call& call) {
  const int count = call.inputs();
  for (int i = 0; i < count; i++) call.pass(i, i);
  Tensor* out = call.output(count, INT64, {kStampFields}, sizeof(Stamp));
  if (!out) return;
  gl_counter so_far;
  gl_row_read(clock.row.get(), &so_far);
  const bool quick = so_far.timed >= kSampled && so_far.nanoseconds < kQuick * so_far.timed;
  Stamp& stamp = *data_of<Stamp>(out);
  stamp.thread = kUntimed;
  if (quick && !chosen(kSampled)) return;
  stamp.thread = this_thread();
  stamp.wall = now_of(CLOCK_MONOTONIC);
  stamp.cpu = now_of(CLOCK_THREAD_CPUTIME_ID);
}

void enter_shapes(ShapeContext* context, Status* status) {
  const int count = static_cast<int>(TF_ShapeInferenceContextNumInputs(context));
  for (int i = 0; i < count; i++) pass_shape(context, i, i, status);
  Shape* stamp = TF_ShapeInferenceContextVectorFromSize(context, kStampFields);
  if (TF_GetCode(status) == OK) TF_ShapeInferenceContextSetOutput(context, count, stamp, status);
  TF_DeleteShapeHandle(stamp);
}

// ---- GreenloadLeave: behind it. Of what the function gives only the last tensor goes through.

void leave(Clock& clock, Call& call) {
  const Tensor* in = call.input(0);
  if (!in) return;
  const Stamp& stamp = *data_of<Stamp>(in);
  gl_counter counter{};
  counter.images = 1;
  if (stamp.thread == this_thread()) {
    counter.nanoseconds = now_of(CLOCK_THREAD_CPUTIME_ID) - stamp.cpu;
    counter.wall_nanoseconds = now_of(CLOCK_MONOTONIC) - stamp.wall;
    counter.timed = 1;
  }
  gl_row_add(clock.row.get(), &counter);
  call.pass(call.inputs() - 1, 0);
}

void leave_shapes(ShapeContext* context, Status* status) {
  pass_shape(context, static_cast<int>(TF_ShapeInferenceContextNumInputs(context)) - 1, 0, status);
}

__attribute__((constructor)) void register_clocks() {
  if (!found_tensorflow() || gl_abi() != GL_ABI) return;
  Status* status = TF_NewStatus();
  add<Clock, enter>("GreenloadEnter", {"inputs: T"}, {"outputs: T", "stamp: int64"},
                    {"T: list(type) >= 1", "counter: string"}, enter_shapes, status);
  if (TF_GetCode(status) == OK)
    add<Clock, leave>("GreenloadLeave", {"stamp: int64", "others: T", "last: L"}, {"output: L"},
                      {"T: list(type) >= 0", "L: type", "counter: string"}, leave_shapes, status);
  TF_DeleteStatus(status);
}

}  // namespace
