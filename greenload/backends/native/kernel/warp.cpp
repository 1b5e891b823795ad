#include <algorithm>
#include <cmath>

#include "filters.h"

namespace greenload {

namespace {

uint8_t rounded(double value, const uint8_t*) {
  return static_cast<uint8_t>(std::clamp(std::floor(value + 0.5), 0.0, 255.0));
}
float rounded(double value, const float*) { return static_cast<float>(value); }

template <class T, int kChannels>
void warp_as(const Image& in, const double* m, double fill, T* out) {
  const int channels = kChannels ? kChannels : in.channels;
  const T outside = rounded(fill, out);
  for (int64_t row = 0; row < in.height; row++) {
    for (int64_t column = 0; column < in.width; column++, out += channels) {
      const double x = m[0] * (column + 0.5) + m[1] * (row + 0.5) + m[2] - 0.5;
      const double y = m[3] * (column + 0.5) + m[4] * (row + 0.5) + m[5] - 0.5;
      // Also what is no number.
      if (!(x > -1.0 && x < static_cast<double>(in.width) && y > -1.0 && y < static_cast<double>(in.height))) {
        std::fill(out, out + channels, outside);
        continue;
      }
      const double left = std::floor(x), top = std::floor(y), right_share = x - left, bottom_share = y - top;
      const int64_t l = static_cast<int64_t>(left), t = static_cast<int64_t>(top);
      const double shares[4] = {(1.0 - right_share) * (1.0 - bottom_share), right_share * (1.0 - bottom_share),
                                (1.0 - right_share) * bottom_share, right_share * bottom_share};
      const T* pixels[4];
      for (int k = 0; k < 4; k++) {
        const int64_t px = l + (k & 1), py = t + (k >> 1);
        const bool inside = px >= 0 && px < in.width && py >= 0 && py < in.height;
        pixels[k] = inside ? reinterpret_cast<const T*>(in.row(py)) + px * channels : nullptr;
      }
      for (int c = 0; c < channels; c++) {
        double total = 0.0;
        for (int k = 0; k < 4; k++) total += shares[k] * (pixels[k] ? static_cast<double>(pixels[k][c]) : fill);
        out[c] = rounded(total, out);
      }
    }
  }
}

}  // namespace

void warp(const Image& in, const double* matrix, double fill, uint8_t* out) {
  if (in.dtype == GL_FLOAT32) return warp_as<float, 0>(in, matrix, fill, reinterpret_cast<float*>(out));
  in.channels == 3 ? warp_as<uint8_t, 3>(in, matrix, fill, out) : warp_as<uint8_t, 0>(in, matrix, fill, out);
}

}  // namespace greenload
