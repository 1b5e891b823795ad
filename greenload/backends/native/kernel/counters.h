// What each step has done: images, bytes, and its CPU time by own clocks.
//
// Between steps the monotonic clock is read, which is no system call. The thread's CPU clock is one, so it is read only
// now and then, and what it says is shared out among the steps as the monotonic clock saw them: time in which the
// thread didn't run is nobody's. Where images take microseconds only some of them are timed, and of batches that take
// that little the monotonic clock must do.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "abi.h"

namespace greenload {

class Counters {
 public:
  explicit Counters(size_t steps) : steps_(steps + 1) {}
  void add(size_t step, const gl_counter& counter);
  void read(gl_counter* counters) const;

 private:
  struct Step {
    std::atomic<int64_t> images{0}, nanoseconds{0}, bytes_in{0}, bytes_out{0};
  };
  std::vector<Step> steps_;  // and the whole
};

// One thread's part, until it is added to the counters.
class Tally {
 public:
  explicit Tally(size_t steps) : counters_(steps + 1), ticks_(steps) {}

  // Around a batch.
  void begin();
  void finish(Counters& total);
  // Around an image.
  void begin_image();
  void finish_image(int64_t bytes_in, int64_t bytes_out);
  // Behind each step that worked.
  void note(size_t step, int64_t bytes_in, int64_t bytes_out);
  // In the midst of one: what was spent since the last of these calls was spent on a step.
  void spend(size_t step);

 private:
  void share_out(int64_t now);

  std::vector<gl_counter> counters_;
  std::vector<int64_t> ticks_;  // of steps since the CPU clock was read
  int64_t timed_ = 0;           // of whole images, the same
  int64_t spent_ = 0;           // CPU time that isn't shared out yet
  int64_t cpu_ = 0, wall_ = 0;  // when it was read
  int64_t begin_ = 0, image_begin_ = 0, last_ = 0;
  int64_t image_ = 0;
  bool timing_ = true, quick_ = false;  // this image; images
  bool brief_ = false;                  // batches, so that the CPU clock isn't read
};

}  // namespace greenload
