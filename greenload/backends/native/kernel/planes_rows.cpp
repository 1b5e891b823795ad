#include "planes_rows.h"

#include <algorithm>

#include "rows.h"

namespace greenload {

namespace {

void blend(const uint8_t* near, const uint8_t* far, int16_t* to, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    to[i] = static_cast<int16_t>(3 * near[i] + far[i]);
  }
}

void widen(const uint8_t* from, int16_t* to, int64_t count) { std::copy(from, from + count, to); }

void narrow(const int16_t* sums, uint8_t* to, int64_t count, int bias) {
  for (int64_t i = 0; i < count; i++) {
    to[i] = static_cast<uint8_t>((sums[i] + bias) >> 2);
  }
}

void spread(const int16_t* sums, uint8_t* to, int64_t count, int left, int right, int shift) {
  for (int64_t i = 0; i < count; i++) {
    to[2 * i] = static_cast<uint8_t>((3 * sums[i] + sums[i - 1] + left) >> shift);
    to[2 * i + 1] = static_cast<uint8_t>((3 * sums[i] + sums[i + 1] + right) >> shift);
  }
}

constexpr int32_t fix(double x) { return static_cast<int32_t>(x * 65536 + 0.5); }
constexpr int32_t kHalf = 1 << 15;

uint8_t level(int32_t value) { return static_cast<uint8_t>(std::clamp(value, 0, 255)); }

void convert(const uint8_t* luma, const uint8_t* blue, const uint8_t* red, uint8_t* to, int64_t count) {
  for (int64_t i = 0; i < count; i++, to += 3) {
    const int32_t y = luma[i], b = blue[i] - 128, r = red[i] - 128;
    to[0] = level(y + ((fix(1.40200) * r + kHalf) >> 16));
    to[1] = level(y + ((-fix(0.34414) * b - fix(0.71414) * r + kHalf) >> 16));
    to[2] = level(y + ((fix(1.77200) * b + kHalf) >> 16));
  }
}

void convert_grey(const uint8_t* luma, uint8_t* to, int64_t count) {
  for (int64_t i = 0; i < count; i++, to += 3) {
    to[0] = to[1] = to[2] = luma[i];
  }
}

}  // namespace

const PlaneLoops kPortablePlaneLoops = {blend, widen, narrow, spread, convert, convert_grey};

const PlaneLoops& plane_loops() { return uses_avx2() ? kAvx2PlaneLoops : kPortablePlaneLoops; }

}  // namespace greenload
