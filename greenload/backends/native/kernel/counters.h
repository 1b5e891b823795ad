// What each step has done: images, bytes, and its CPU time by own clocks.
//
// Between steps the monotonic clock is read, which is no system call. The thread's CPU clock is one, so it is read only
// now and then, and what it says is shared out among the steps as the monotonic clock saw them: time in which the
// thread didn't run is nobody's. Where images take microseconds only some of them are timed, and where batches do only
// some batches: what these take, an image, stands for the others.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "abi.h"

namespace greenload {

// One row of counters. Any thread adds to it, without a lock; it has its cache line to itself.
class alignas(64) Row {
 public:
  void add(const gl_counter& counter);
  gl_counter read() const;

 private:
  std::atomic<int64_t> images_{0}, nanoseconds_{0}, bytes_in_{0}, bytes_out_{0}, timed_{0}, wall_nanoseconds_{0},
      crossed_{0};
};

// The process's row of a name: there for as long as somebody holds it. Throws a Failure where it can't have that name.
std::shared_ptr<Row> named_row(const std::string& name);
// Fills in as many rows as have room, in the order of their names, and returns how many there are.
int64_t named_rows(gl_named_counter* rows, int64_t capacity);

// A row for each step of a program, and one for whole images.
class Counters {
 public:
  explicit Counters(size_t steps);
  // Counts in the process's rows "name/number" and "name" instead. Before the first image.
  void share(const std::string& name, const int32_t* numbers);
  void add(size_t step, const gl_counter& counter) { rows_[step]->add(counter); }
  void read(gl_counter* counters) const;

 private:
  std::vector<std::shared_ptr<Row>> rows_;
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
  // The same of several steps that were done as one, of which each counts for as much.
  void spend(const std::vector<size_t>& steps);

 private:
  void start();
  void share_out(int64_t now);
  void share_out_untold();

  std::vector<gl_counter> counters_;
  std::vector<int64_t> ticks_;     // of steps since the CPU clock was read
  int64_t timed_ = 0;              // of whole images, the same
  int64_t told_ = 0, untold_ = 0;  // CPU time of this batch that was shared out, and that no timed image tells of
  int64_t carried_ = 0;            // of whole batches before this one that no timed image tells of
  int64_t cpu_ = 0, wall_ = 0;     // when it was read
  int64_t image_begin_ = 0, last_ = 0;
  int64_t image_ = 0;                                     // one in so many is timed
  int64_t before_ = 0;                                    // images of this batch before that
  int64_t untimed_ = 0;                                   // images of batches since the last that was timed
  int64_t skipped_ = 0;                                   // batches that aren't timed before the next that is
  int64_t usual_ = 0;                                     // images of the last batch that was timed
  bool started_ = false, timing_ = true, quick_ = false;  // this batch's timing; this image's; images
};

}  // namespace greenload
