// AVX2 forms of loops over single values. Each does as many as fill vectors, and says how many: the rest is left to the
// portable form, and all of it where there is no AVX2.
#pragma once
#include <cstdint>

namespace greenload {

// Pixels of three levels through `matrix` [3, 4], whose last column is in levels. May work in place.
int64_t recolor_avx2(const uint8_t* in, uint8_t* out, int64_t pixels, const float* matrix);

// Values · scale + offset, in float32. `scales` and `offsets` repeat after a multiple of 24 values.
int64_t scale_avx2(const uint8_t* in, float* out, int64_t values, const float* scales, const float* offsets);

}  // namespace greenload
