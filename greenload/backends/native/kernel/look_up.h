// Vector forms of look-ups in tables of 256 levels: one for all values, or three for RGB. Each does values from the
// first on, and says how many: none where this processor has no such vectors, or `count` is another. May work in place.
#pragma once
#include <cstdint>

namespace greenload {

int64_t look_up_avx2(const uint8_t* in, uint8_t* out, int64_t values, const uint8_t* tables, int count);

// Where GREENLOAD_NATIVE_SIMD isn't "avx2" either.
int64_t look_up_avx512(const uint8_t* in, uint8_t* out, int64_t values, const uint8_t* tables, int count);

}  // namespace greenload
