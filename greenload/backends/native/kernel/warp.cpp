#include <algorithm>
#include <cmath>
#include <cstring>

#include "filters.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace greenload {

namespace {

uint8_t rounded(double value, const uint8_t*) {
  return static_cast<uint8_t>(std::clamp(std::floor(value + 0.5), 0.0, 255.0));
}
float rounded(double value, const float*) { return static_cast<float>(value); }

// Where an output pixel's centre lies in the input, counted from the centre of its first pixel.
struct Place {
  double x, y;
};

Place place_of(const double* m, int64_t column, int64_t row) {
  return {m[0] * (column + 0.5) + m[1] * (row + 0.5) + m[2] - 0.5,
          m[3] * (column + 0.5) + m[4] * (row + 0.5) + m[5] - 0.5};
}

// One pixel, wherever it lies.
template <class T>
void anywhere(const Image& in, Place place, double fill, T* out) {
  const double x = place.x, y = place.y;
  // What is no number lies nowhere.
  if (!(x > -1.0 && x < static_cast<double>(in.width) && y > -1.0 && y < static_cast<double>(in.height))) {
    std::fill(out, out + in.channels, rounded(fill, out));
    return;
  }
  const double left = std::floor(x), top = std::floor(y), right_share = x - left, bottom_share = y - top;
  const int64_t l = static_cast<int64_t>(left), t = static_cast<int64_t>(top);
  const double shares[4] = {(1.0 - right_share) * (1.0 - bottom_share), right_share * (1.0 - bottom_share),
                            (1.0 - right_share) * bottom_share, right_share * bottom_share};
  const T* pixels[4];
  for (int k = 0; k < 4; k++) {
    const int64_t px = l + (k & 1), py = t + (k >> 1);
    const bool inside = px >= 0 && px < in.width && py >= 0 && py < in.height;
    pixels[k] = inside ? reinterpret_cast<const T*>(in.row(py)) + px * in.channels : nullptr;
  }
  for (int c = 0; c < in.channels; c++) {
    double total = 0.0;
    for (int k = 0; k < 4; k++) {
      total += shares[k] * (pixels[k] ? static_cast<double>(pixels[k][c]) : fill);
    }
    out[c] = rounded(total, out);
  }
}

template <class T>
void warp_any(const Image& in, const double* m, double fill, T* out) {
  for (int64_t row = 0; row < in.height; row++) {
    for (int64_t column = 0; column < in.width; column++, out += in.channels) {
      anywhere(in, place_of(m, column, row), fill, out);
    }
  }
}

// Three levels as a vector of floats, and back; the fourth is the next pixel's.
typedef float Four __attribute__((vector_size(16)));

#if defined(__x86_64__)
inline Four levels(const uint8_t* from) {
  int32_t bytes;
  memcpy(&bytes, from, 4);
  const __m128i zero = _mm_setzero_si128();
  return _mm_cvtepi32_ps(_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(bytes), zero), zero));
}

inline void store(Four values, uint8_t* to) {
  const __m128i words = _mm_packs_epi32(_mm_cvttps_epi32(values), _mm_setzero_si128());
  const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
  memcpy(to, &bytes, 3);
}
#else
inline Four levels(const uint8_t* from) {
  return Four{static_cast<float>(from[0]), static_cast<float>(from[1]), static_cast<float>(from[2]), 0.0f};
}

inline void store(Four values, uint8_t* to) {
  for (int k = 0; k < 3; k++) {
    to[k] = static_cast<uint8_t>(values[k]);
  }
}
#endif

// RGB levels. Pixels between four others of the image are mixed in float32, the rest as any.
void warp_rgb(const Image& in, const double* m, double fill, uint8_t* out) {
  // Of the rightmost pixel a byte too many would be read. Copies, as a byte that is written may be any of what it came
  // from, as far as the compiler knows.
  const double most_x = static_cast<double>(in.width - 2), most_y = static_cast<double>(in.height - 1);
  const double x_step = m[0], y_step = m[3];
  const int64_t width = in.width, stride = in.stride;
  const uint8_t* pixels = in.data;
  for (int64_t row = 0; row < in.height; row++) {
    const double x_row = m[1] * (row + 0.5), x_shift = m[2], y_row = m[4] * (row + 0.5), y_shift = m[5];
    for (int64_t column = 0; column < width; column++, out += 3) {
      const double middle = column + 0.5;
      const double x = x_step * middle + x_row + x_shift - 0.5, y = y_step * middle + y_row + y_shift - 0.5;
      if (!(x >= 0.0 && x < most_x && y >= 0.0 && y < most_y)) {
        anywhere(in, {x, y}, fill, out);
        continue;
      }
      const int32_t left = static_cast<int32_t>(x), top = static_cast<int32_t>(y);
      const float right_share = static_cast<float>(x - left), bottom_share = static_cast<float>(y - top);
      const uint8_t* above = pixels + top * stride + left * 3;
      const uint8_t* below = above + stride;
      const Four a = levels(above), b = levels(above + 3), c = levels(below), d = levels(below + 3);
      const Four upper = a + (b - a) * right_share, lower = c + (d - c) * right_share;
      store(upper + (lower - upper) * bottom_share + 0.5f, out);
    }
  }
}

}  // namespace

void warp(const Image& in, const double* matrix, double fill, uint8_t* out) {
  if (in.dtype == GL_FLOAT32) {
    return warp_any(in, matrix, fill, reinterpret_cast<float*>(out));
  }
  in.channels == 3 ? warp_rgb(in, matrix, fill, out) : warp_any(in, matrix, fill, out);
}

}  // namespace greenload
