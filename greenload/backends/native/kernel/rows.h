// The loops over rows that resizing and blurring uint8 images come down to, in fixed point. There is a portable form of
// each and one for AVX2, which give the same bits.
//
// Every row handed in may be read, and every row of int16 handed out may be written, kSlack bytes past its end.
#pragma once
#include <cstdint>
#include <vector>

#include "weights.h"

namespace greenload {

// A row's resampling, laid out for the loops.
struct Columns {
  int64_t out = 0;
  int channels = 0;
  int taps = 0;
  std::vector<int32_t> offset;   // [out, filled up to 4 with the last]: of the first value that a pixel reads
  std::vector<int16_t> weights;  // [out, taps]
  // For AVX2, of 3 channels: each weight as often as a vector needs it, one vector for 4 taps of a pixel; or, where
  // there are 2 taps, for 2 pixels.
  std::vector<int16_t> spread;

  // `mirrored`: pixels from right to left.
  void set(const Q14Axis& axis, int channels, bool mirrored, bool vectors);
};

struct RowLoops {
  // Resamples a row of levels, to Q7.
  void (*across_bytes)(const uint8_t* row, int16_t* out, const Columns& columns);
  // Resamples a row of Q7, to levels rounded half up. The portable form writes the row alone; AVX2's 4 bytes more.
  void (*across_q7)(const int16_t* row, uint8_t* out, const Columns& columns);
  // Weighs rows of levels up, to Q7: `values` of each. Weights are in pairs.
  void (*down_bytes)(const uint8_t* const* rows, const int16_t* weights, int pairs, int16_t* out, int64_t values);
  // Weighs rows of Q7 up, to levels rounded half up. Writes the row alone.
  void (*down_q7)(const int16_t* const* rows, const int16_t* weights, int pairs, uint8_t* out, int64_t values);
};

extern const RowLoops kPortableLoops;
// The best that this processor has, for a number of channels.
const RowLoops& row_loops(int channels);
// Whether this processor has AVX2, and GREENLOAD_NATIVE_SIMD isn't "scalar".
bool uses_avx2();

}  // namespace greenload
