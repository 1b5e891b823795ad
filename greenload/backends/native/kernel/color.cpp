#include "color.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "color_avx2.h"
#include "failure.h"

namespace greenload {

namespace {

uint8_t level(float value) { return static_cast<uint8_t>(std::min(std::max(value, 0.0f), 255.0f) + 0.5f); }

// The order of operations is that of the AVX2 form, so that both give the same bits.
void recolor_levels(const uint8_t* in, uint8_t* out, int64_t pixels, const float* m) {
  for (int64_t i = 0; i < pixels; i++, in += 3, out += 3) {
    const float r = in[0], g = in[1], b = in[2];
    for (int c = 0; c < 3; c++) {
      out[c] = level(((r * m[4 * c] + g * m[4 * c + 1]) + b * m[4 * c + 2]) + m[4 * c + 3]);
    }
  }
}

void recolor_floats(const float* in, float* out, int64_t pixels, const double* m) {
  for (int64_t i = 0; i < pixels; i++, in += 3, out += 3) {
    const double r = in[0], g = in[1], b = in[2];
    for (int c = 0; c < 3; c++) {
      const double value = r * m[4 * c] + g * m[4 * c + 1] + b * m[4 * c + 2] + m[4 * c + 3];
      out[c] = static_cast<float>(std::min(std::max(value, 0.0), 1.0));
    }
  }
}

}  // namespace

void recolor(const Image& in, const double* matrix, const Image& out) {
  if (in.channels != 3) {
    fail(GL_BAD_CALL, "colours of %d channels", in.channels);
  }
  float levels[12];
  for (int i = 0; i < 12; i++) {
    levels[i] = static_cast<float>(i % 4 == 3 ? matrix[i] * 255.0 : matrix[i]);
  }
  for (int64_t y = 0; y < in.height; y++) {
    if (in.dtype == GL_FLOAT32) {
      recolor_floats(reinterpret_cast<const float*>(in.row(y)), reinterpret_cast<float*>(out.row(y)), in.width, matrix);
      continue;
    }
    const int64_t done = recolor_avx2(in.row(y), out.row(y), in.width, levels);
    recolor_levels(in.row(y) + 3 * done, out.row(y) + 3 * done, in.width - done, levels);
  }
}

}  // namespace greenload
