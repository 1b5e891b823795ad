// Steps on the values of single pixels: colours, look-up tables, scaling to another dtype.
#pragma once
#include <vector>

#include "image.h"

namespace greenload {

// `matrix` [3, 4] on (r, g, b, 1), for values in 0 … 1: clipped, uint8 rounded half up. In place where `out` is the
// image.
void recolor(const Image& in, const double* matrix, const Image& out);

// tables[c][v] for each value of channel c; `count` tables of 256 levels, one a channel or one for all. In place where
// `out` is the image.
void look_up(const Image& in, const uint8_t* tables, int count, const Image& out);

// x · scale + offset per channel, then to a dtype.
class Affine {
 public:
  // `numbers` [scales …, offsets …], one a channel or one for all.
  Affine(const double* numbers, int count, int32_t dtype_in, int32_t dtype_out);
  // In place where `out` is the image; then a value must take as many bytes as before.
  void apply(const Image& in, const Image& out) const;
  int channels() const { return static_cast<int>(scales_.size()); }  // 1 for any number

 private:
  void by_table(const Image& in, const Image& out) const;
  void in_float32(const Image& in, const Image& out) const;
  int32_t dtype_in_, dtype_out_;
  std::vector<double> scales_, offsets_;
  std::vector<float> row_scales_, row_offsets_;  // to float32 from 8 bits or itself: repeated, for vectors
  std::vector<uint8_t> table_;                   // of 8 bits to anything but float32: [channels, 256], each exact
};

}  // namespace greenload
