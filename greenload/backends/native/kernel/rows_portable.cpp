#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "rows.h"
#include "rows_avx2.h"

namespace greenload {

namespace {

constexpr int kToQ7 = 14 - kQ7Bits;      // from levels × Q14
constexpr int kToLevels = 14 + kQ7Bits;  // from Q7 × Q14

uint8_t as_level(int sum) {
  return static_cast<uint8_t>(std::clamp((sum + (1 << (kToLevels - 1))) >> kToLevels, 0, 255));
}

// Of a number of channels that is compiled in: rows have slack, so that taps of weight 0 behind a row's end can be
// read.
template <int kChannels, class In, class Emit>
void across(const In* row, const Columns& columns, Emit emit) {
  const int16_t* weights = columns.weights.data();
  for (int64_t o = 0; o < columns.out; o++, weights += columns.taps) {
    const In* pixel = row + columns.offset[o];
    int sums[kChannels] = {};
    for (int t = 0; t < columns.taps; t++, pixel += kChannels) {
      for (int c = 0; c < kChannels; c++) {
        sums[c] += pixel[c] * weights[t];
      }
    }
    for (int c = 0; c < kChannels; c++) {
      emit(o * kChannels + c, sums[c]);
    }
  }
}

template <class In, class Emit>
void across_any(const In* row, const Columns& columns, Emit emit) {
  const int16_t* weights = columns.weights.data();
  for (int64_t o = 0; o < columns.out; o++, weights += columns.taps) {
    const In* pixel = row + columns.offset[o];
    for (int c = 0; c < columns.channels; c++) {
      int sum = 0;
      for (int t = 0; t < columns.taps; t++) {
        if (weights[t]) {
          sum += pixel[t * columns.channels + c] * weights[t];
        }
      }
      emit(o * columns.channels + c, sum);
    }
  }
}

template <class In, class Emit>
void across_channels(const In* row, const Columns& columns, Emit emit) {
  switch (columns.channels) {
    case 1: return across<1>(row, columns, emit);
    case 3: return across<3>(row, columns, emit);
    case 4: return across<4>(row, columns, emit);
  }
  across_any(row, columns, emit);
}

void across_bytes(const uint8_t* row, int16_t* out, const Columns& columns) {
  across_channels(row, columns,
                  [&](int64_t i, int sum) { out[i] = static_cast<int16_t>((sum + (1 << (kToQ7 - 1))) >> kToQ7); });
}

void across_q7(const int16_t* row, uint8_t* out, const Columns& columns) {
  across_channels(row, columns, [&](int64_t i, int sum) { out[i] = as_level(sum); });
}

void down_bytes(const uint8_t* const* rows, const int16_t* weights, int pairs, int16_t* out, int64_t values) {
  if (pairs == 1) {  // a + (b − a) · w, the product rounded as a processor's rounding multiplication does
    const int second = std::min(32767, weights[1] * 2);
    for (int64_t i = 0; i < values; i++) {
      int a = rows[0][i] << kQ7Bits, b = rows[1][i] << kQ7Bits;
      out[i] = static_cast<int16_t>(a + (((b - a) * second + (1 << 14)) >> 15));
    }
    return;
  }
  for (int64_t i = 0; i < values; i++) {
    int sum = 1 << (kToQ7 - 1);
    for (int t = 0; t < 2 * pairs; t++) {
      sum += rows[t][i] * weights[t];
    }
    out[i] = static_cast<int16_t>(sum >> kToQ7);
  }
}

void down_q7(const int16_t* const* rows, const int16_t* weights, int pairs, uint8_t* out, int64_t values) {
  for (int64_t i = 0; i < values; i++) {
    int sum = 0;
    for (int t = 0; t < 2 * pairs; t++) {
      sum += rows[t][i] * weights[t];
    }
    out[i] = as_level(sum);
  }
}

bool wants_avx2() {
  const char* forced = getenv("GREENLOAD_NATIVE_SIMD");
  return has_avx2() && !(forced && strcmp(forced, "scalar") == 0);
}

}  // namespace

const RowLoops kPortableLoops = {across_bytes, across_q7, down_bytes, down_q7};

const RowLoops& row_loops(int channels) {
  static const RowLoops mixed = {across_bytes, across_q7, kAvx2Loops.down_bytes, kAvx2Loops.down_q7};
  if (!uses_avx2()) {
    return kPortableLoops;
  }
  return channels == 3 ? kAvx2Loops : mixed;
}

// Asked once: what it says must not change under a running program.
bool uses_avx2() {
  static const bool uses = wants_avx2();
  return uses;
}

void Columns::set(const Q14Axis& axis, int channels_, bool mirrored, bool vectors) {
  out = axis.count;
  channels = channels_;
  taps = axis.taps;
  const int64_t filled = (out + 3) / 4 * 4;
  offset.resize(filled);
  weights.resize(filled * taps);
  for (int64_t o = 0; o < filled; o++) {
    int64_t pixel = std::min(o, out - 1);
    if (mirrored) {
      pixel = out - 1 - pixel;
    }
    offset[o] = axis.start[pixel] * channels;
    std::copy_n(&axis.weights[pixel * taps], taps, &weights[o * taps]);
  }
  if (vectors) {
    spread_for_avx2(*this);
  }
}

}  // namespace greenload
