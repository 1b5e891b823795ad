// Bilinear resizing, with and without antialias: uint8 rounded half up, float32.
#pragma once
#include "buffer.h"
#include "held_rows.h"
#include "image.h"
#include "rows.h"
#include "weights.h"

namespace greenload {

// A resize, or a window of its result from as much of an image as that window needs.
struct Resampling {
  Span down, across;
  bool mirrored = false;  // left and right exchanged in the result

  // The part of the whole image that it reads.
  Window reads() const {
    return {down.begin(), across.begin(), down.end() - down.begin(), across.end() - across.begin()};
  }
};

class Resizer {
 public:
  // `in` begins at the origins of `wanted`. `out` takes its counts of rows and columns, without gaps, of the image's
  // dtype. Whether a window or the whole is asked for, and of how much, pixels are the same.
  void resize(const Image& in, const Resampling& wanted, uint8_t* out);
  // Gives back memory above a limit.
  void trim(size_t limit);

 private:
  void down_first(const Image& in, uint8_t* out);
  void across_first(const Image& in, uint8_t* out);
  template <class T>
  void exact(const Image& in, bool mirrored, uint8_t* out);
  int weights_of(int64_t o, const int16_t** weights, int64_t* rows) const;

  Axis down_, across_;
  Q14Axis q14_down_, q14_across_;
  Columns columns_;
  HeldRows::Need need_;
  HeldRows rows_;
  // What columns_ and the Q14 axes were made from.
  Resampling made_;
  int made_channels_ = 0;
  Buffer ring_, line_, sums_;
  std::vector<int64_t> held_;  // the row in each slot of the ring
};

}  // namespace greenload
