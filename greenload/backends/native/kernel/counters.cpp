#include "counters.h"

#include <time.h>

#include <algorithm>

namespace greenload {

namespace {

// Reading the CPU clock takes about a microsecond: about 0.1 % of this.
constexpr int64_t kBetweenReadings = 1'000'000;
// Of images that take less than this only one in kSampled is timed: reading the clock takes about 50 ns.
constexpr int64_t kQuick = 150'000;
constexpr int64_t kSampled = 16;
// Of batches that take less than this the CPU clock isn't read.
constexpr int64_t kBrief = 200'000;

int64_t now_of(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

int64_t wall_now() { return now_of(CLOCK_MONOTONIC); }
int64_t cpu_now() { return now_of(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace

void Counters::add(size_t step, const gl_counter& counter) {
  steps_[step].images.fetch_add(counter.images, std::memory_order_relaxed);
  steps_[step].nanoseconds.fetch_add(counter.nanoseconds, std::memory_order_relaxed);
  steps_[step].bytes_in.fetch_add(counter.bytes_in, std::memory_order_relaxed);
  steps_[step].bytes_out.fetch_add(counter.bytes_out, std::memory_order_relaxed);
}

void Counters::read(gl_counter* counters) const {
  for (size_t i = 0; i < steps_.size(); i++) {
    counters[i].images = steps_[i].images.load(std::memory_order_relaxed);
    counters[i].nanoseconds = steps_[i].nanoseconds.load(std::memory_order_relaxed);
    counters[i].bytes_in = steps_[i].bytes_in.load(std::memory_order_relaxed);
    counters[i].bytes_out = steps_[i].bytes_out.load(std::memory_order_relaxed);
  }
}

void Tally::begin() {
  begin_ = wall_ = wall_now();
  if (!brief_) {
    cpu_ = cpu_now();
  }
}

void Tally::finish(Counters& total) {
  const int64_t now = wall_now();
  share_out(now);
  brief_ = now - begin_ < kBrief;
  for (size_t i = 0; i < counters_.size(); i++) {
    total.add(i, counters_[i]);
    counters_[i] = gl_counter();
  }
}

void Tally::begin_image() {
  timing_ = !quick_ || ++image_ % kSampled == 0;
  if (timing_) {
    image_begin_ = last_ = wall_now();
  }
}

void Tally::finish_image(int64_t bytes_in, int64_t bytes_out) {
  gl_counter& whole = counters_.back();
  whole.images++;
  whole.bytes_in += bytes_in;
  whole.bytes_out += bytes_out;
  if (!timing_) {
    return;
  }
  const int64_t now = wall_now();
  timed_ += now - image_begin_;
  quick_ = now - image_begin_ < kQuick;
  if (now - wall_ >= kBetweenReadings) {
    share_out(now);
  }
}

void Tally::note(size_t step, int64_t bytes_in, int64_t bytes_out) {
  gl_counter& counter = counters_[step];
  counter.images++;
  counter.bytes_in += bytes_in;
  counter.bytes_out += bytes_out;
  spend(step);
}

void Tally::spend(size_t step) {
  if (!timing_) {
    return;
  }
  const int64_t now = wall_now();
  ticks_[step] += now - last_;
  last_ = now;
}

void Tally::share_out(int64_t now) {
  int64_t spent = now - wall_;
  if (!brief_) {
    const int64_t cpu = cpu_now();
    spent = cpu - cpu_;
    cpu_ = cpu;
  } else if (now - begin_ >= kBetweenReadings) {  // not as brief as the last
    brief_ = false;
    cpu_ = cpu_now();
  }
  wall_ = now;
  spent_ += spent;
  counters_.back().nanoseconds += spent;
  if (timed_ <= 0) {
    return;
  }
  // What was spent on images that weren't timed is shared out alike.
  for (size_t i = 0; i < ticks_.size(); i++) {
    const double share = static_cast<double>(ticks_[i]) / static_cast<double>(timed_);
    counters_[i].nanoseconds += static_cast<int64_t>(share * static_cast<double>(spent_));
    ticks_[i] = 0;
  }
  timed_ = spent_ = 0;
}

}  // namespace greenload
