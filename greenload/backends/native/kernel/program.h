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

// What one thread uses to run images: kept from image to image, so that in the long run nothing is allocated.
struct Scratch {
  explicit Scratch(size_t steps) : tally(steps) {}
  // Gives back memory that an uncommonly large image needed.
  void trim();

  Decoder decoder;
  Resizer resizer;
  Blur blur;
  Buffer between[2], pixel;
  Tally tally;
};

class Program {
 public:
  // Throws a Failure where a step isn't known or is out of range.
  Program(const gl_step* steps, int32_t count, int32_t columns);

  const std::vector<Step>& steps() const { return steps_; }
  int32_t columns() const { return columns_; }
  Counters& counters() { return counters_; }

  std::unique_ptr<Scratch> take();
  void give_back(std::unique_ptr<Scratch> scratch);

 private:
  std::vector<Step> steps_;
  int32_t columns_;
  Counters counters_;
  std::mutex lock_;
  std::vector<std::unique_ptr<Scratch>> spare_;
};

// Runs one image through a program: `input` and `size` as in gl_run, `params` its row. The result takes out_bytes.
// Throws a Failure.
void run_image(const Program& program, Scratch& scratch, const void* input, const int64_t* size, const double* params,
               uint8_t* out, int64_t out_bytes);

}  // namespace greenload
