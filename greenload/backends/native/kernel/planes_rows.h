// The loops over rows that planes become pixels by. There is a portable form of each and one for AVX2, which give the
// same bits: those of libjpeg's "fancy" upsampling (jdsample.c) and of its conversion of colours (jdcolor.c).
//
// Every row handed in may be read 32 bytes past its end, and every row handed out may be written kSlack bytes past it.
#pragma once
#include <cstdint>

namespace greenload {

struct PlaneLoops {
  // to[i] = 3 · near[i] + far[i]
  void (*blend)(const uint8_t* near, const uint8_t* far, int16_t* to, int64_t count);
  // to[i] = from[i]
  void (*widen)(const uint8_t* from, int16_t* to, int64_t count);
  // to[i] = (sums[i] + bias) >> 2
  void (*narrow)(const int16_t* sums, uint8_t* to, int64_t count, int bias);
  // to[2i] = (3 · sums[i] + sums[i − 1] + left) >> shift, to[2i + 1] = (3 · sums[i] + sums[i + 1] + right) >> shift
  void (*spread)(const int16_t* sums, uint8_t* to, int64_t count, int left, int right, int shift);
  // To RGB.
  void (*convert)(const uint8_t* luma, const uint8_t* blue, const uint8_t* red, uint8_t* to, int64_t count);
  void (*convert_grey)(const uint8_t* luma, uint8_t* to, int64_t count);
};

extern const PlaneLoops kPortablePlaneLoops, kAvx2PlaneLoops;
// The best that this processor has.
const PlaneLoops& plane_loops();

}  // namespace greenload
