#include <algorithm>
#include <cmath>
#include <cstring>

#include "failure.h"
#include "filters.h"
#include "resize.h"
#include "rows.h"
#include "weights.h"

namespace greenload {

namespace {

// A place beyond the border, mirrored about the outermost pixels, which aren't repeated: as often as it takes.
int64_t mirrored(int64_t place, int64_t size) {
  if (size == 1) {
    return 0;
  }
  const int64_t period = 2 * (size - 1);
  place %= period;
  if (place < 0) {
    place += period;
  }
  return place < size ? place : period - place;
}

// Weights in pairs: an odd one gets a 0 beside it.
int quantised(double sigma, int taps, int16_t* q14) {
  std::vector<double> weights;
  gaussian(sigma, taps, weights);
  quantise(weights.data(), taps, q14);
  if (taps % 2) {
    q14[taps] = 0;
  }
  return (taps + 1) / 2;
}

}  // namespace

void Blur::apply(const Image& in, double sigma, int rows, int columns, uint8_t* out) {
  if (!(sigma > 0.0)) {
    fail(GL_BAD_CALL, "a blur of sigma %g", sigma);
  }
  if (in.dtype == GL_FLOAT32) {
    return exact<float>(in, sigma, rows, columns, out);
  }
  if (std::max(rows, columns) > kMostTaps) {
    return exact<uint8_t>(in, sigma, rows, columns, out);
  }
  fixed(in, sigma, rows, columns, out);
}

// Both directions are sums of rows: across they are one row, moved pixel by pixel.
void Blur::fixed(const Image& in, double sigma, int rows, int columns, uint8_t* out) {
  const RowLoops& loops = row_loops(in.channels);
  int16_t down[kMostTaps + 1], across[kMostTaps + 1];
  const int down_pairs = quantised(sigma, rows, down), across_pairs = quantised(sigma, columns, across);
  const int64_t values = in.row_values(), channels = in.channels, rim = columns / 2 * channels;
  int16_t* line = line_.of<int16_t>(values + 2 * rim);
  // Rows that end too near the end of readable memory are copied.
  int64_t copied_from = in.height;
  while (copied_from > 0 && !has_slack(in, copied_from - 1)) {
    copied_from--;
  }
  const int64_t pitch = in.row_bytes() + static_cast<int64_t>(kSlack);
  uint8_t* copies = copies_.bytes(pitch * (in.height - copied_from));
  for (int64_t y = copied_from; y < in.height; y++) {
    memcpy(copies + pitch * (y - copied_from), in.row(y), in.row_bytes());
  }
  for (int64_t y = 0; y < in.height; y++) {
    const uint8_t* above[kMostTaps + 1];
    const int16_t* beside[kMostTaps + 1];
    for (int t = 0; t < 2 * down_pairs; t++) {
      const int64_t from = mirrored(y + std::min(t, rows - 1) - rows / 2, in.height);
      above[t] = from < copied_from ? in.row(from) : copies + pitch * (from - copied_from);
    }
    loops.down_bytes(above, down, down_pairs, line + rim, values);
    for (int64_t x = 1; x <= columns / 2; x++) {
      std::copy_n(line + rim + mirrored(-x, in.width) * channels, channels, line + rim - x * channels);
    }
    for (int64_t x = 0; x < columns / 2; x++) {
      std::copy_n(line + rim + mirrored(in.width + x, in.width) * channels, channels,
                  line + rim + values + x * channels);
    }
    for (int t = 0; t < 2 * across_pairs; t++) {
      beside[t] = line + std::min(t, columns - 1) * channels;
    }
    loops.down_q7(beside, across, across_pairs, out + y * values, values);
  }
}

template <class T>
void Blur::exact(const Image& in, double sigma, int rows, int columns, uint8_t* out) {
  std::vector<double> down, across;
  gaussian(sigma, rows, down);
  gaussian(sigma, columns, across);
  const int64_t values = in.row_values(), channels = in.channels;
  double* line = line_.of<double>(values);
  T* result = reinterpret_cast<T*>(out);
  for (int64_t y = 0; y < in.height; y++, result += values) {
    std::fill(line, line + values, 0.0);
    for (int t = 0; t < rows; t++) {
      const T* row = reinterpret_cast<const T*>(in.row(mirrored(y + t - rows / 2, in.height)));
      for (int64_t i = 0; i < values; i++) {
        line[i] += down[t] * row[i];
      }
    }
    for (int64_t x = 0; x < in.width; x++) {
      for (int64_t c = 0; c < channels; c++) {
        double sum = 0.0;
        for (int t = 0; t < columns; t++) {
          sum += across[t] * line[mirrored(x + t - columns / 2, in.width) * channels + c];
        }
        result[x * channels + c] = static_cast<T>(sizeof(T) == 1 ? std::clamp(std::floor(sum + 0.5), 0.0, 255.0) : sum);
      }
    }
  }
}

void Blur::trim(size_t limit) {
  release_above(limit, {&line_, &copies_});
}

}  // namespace greenload
