// A segment's steps, checked, and what running them needs.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "abi.h"
#include "color.h"
#include "counters.h"
#include "filters.h"
#include "forms.h"
#include "image.h"
#include "resize.h"
#include "weighted_sum.h"

namespace greenload {

struct Step {
  gl_step given;  // its pointers aren't valid any more
  std::vector<double> numbers;
  std::vector<uint8_t> table;
  std::unique_ptr<const Affine> affine;  // of GL_AFFINE

  bool flag(int32_t which) const { return given.flags & which; }
  // Whether it leaves the size of an image and of its values as they are, so that it can work in place.
  bool in_place() const;
};

// What one thread uses to run images: kept from image to image and from program to program, so that in the long run
// nothing is allocated, and many programs take no more memory than one.
struct Scratch {
  // Gives back memory that an uncommonly large image needed.
  void trim();

  Decoder decoder;
  Resizer resizer;
  Blur blur;
  Buffer between[2], pixel, tables;
  WeightedSum sum;
  std::vector<size_t> as_one;  // steps that are done in one pass
};

// Things that threads take for a while, as many as were in use at a time. The lock is only tried: a process that was
// forked while another thread held it would wait for ever.
template <class Thing>
class Spares {
 public:
  // Null where there is none.
  std::unique_ptr<Thing> take() {
    std::unique_ptr<Thing> thing;
    if (std::unique_lock<std::mutex> lock(lock_, std::try_to_lock); lock && !things_.empty()) {
      thing = std::move(things_.back());
      things_.pop_back();
    }
    return thing;
  }
  void give_back(std::unique_ptr<Thing> thing) {
    if (std::unique_lock<std::mutex> lock(lock_, std::try_to_lock); lock) {
      things_.push_back(std::move(thing));
    }
  }

 private:
  std::mutex lock_;
  std::vector<std::unique_ptr<Thing>> things_;
};

// One thread at work on a program.
struct Worker {
  std::unique_ptr<Scratch> scratch;
  std::unique_ptr<Tally> tally;
  explicit operator bool() const { return scratch && tally; }
};

class Program {
 public:
  // Throws a Failure where a step isn't known or is out of range.
  Program(const gl_step* steps, int32_t count, int32_t columns);

  const std::vector<Step>& steps() const { return steps_; }
  int32_t columns() const { return columns_; }
  Counters& counters() { return counters_; }

  Worker take();
  void give_back(Worker worker);

 private:
  std::vector<Step> steps_;
  int32_t columns_;
  Counters counters_;
  Spares<Tally> tallies_;
};

// Runs one image through a program: `input` and `size` as in gl_run, `params` its row. The result takes out_bytes.
// Throws a Failure.
void run_image(const Program& program, const Worker& worker, const void* input, const int64_t* size,
               const double* params, uint8_t* out, int64_t out_bytes);

}  // namespace greenload
