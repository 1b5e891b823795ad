#include "mix.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstring>

#include "failure.h"
#include "rows.h"
#include "values.h"

namespace greenload {

namespace {

// From value `i` on.
template <class Level>
void weigh(const Level* a, const Level* b, Level* __restrict out, int64_t i, int64_t values, int weight) {
  const int16_t first = static_cast<int16_t>(weight), second = static_cast<int16_t>((1 << kWeightBits) - weight);
  for (; i < values; i++) {
    out[i] = static_cast<Level>((a[i] * first + b[i] * second + (1 << (kWeightBits - 1))) >> kWeightBits);
  }
}

#if defined(__x86_64__)
// The same in 16 bits: of weights 64 h + l the sum is 64 H + L, where H = a h₁ + b h₂ ≤ 255 · 64 and L = a l₁ + b l₂ ≤
// 255 · 64; and ⌊(64 H + L + 2048) / 4096⌋ = ⌊(H + ⌊(L + 2048) / 64⌋) / 64⌋. Returns how many values are done.
__attribute__((target("avx2"))) int64_t weigh_avx2(const uint8_t* a, const uint8_t* b, uint8_t* out, int64_t values,
                                                   int weight) {
  const int rest = (1 << kWeightBits) - weight;
  const __m256i high = _mm256_set1_epi16(static_cast<int16_t>((weight >> 6) | (rest >> 6) << 8));
  const __m256i low = _mm256_set1_epi16(static_cast<int16_t>((weight & 63) | (rest & 63) << 8));
  const __m256i half = _mm256_set1_epi16(1 << (kWeightBits - 1));
  auto eight_bits = [&](__m256i pairs) __attribute__((target("avx2"))) {
    const __m256i carried = _mm256_srli_epi16(_mm256_add_epi16(_mm256_maddubs_epi16(pairs, low), half), 6);
    return _mm256_srli_epi16(_mm256_add_epi16(_mm256_maddubs_epi16(pairs, high), carried), 6);
  };
  int64_t i = 0;
  for (; i + 32 <= values; i += 32) {
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + i));
    const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + i));
    const __m256i lower = eight_bits(_mm256_unpacklo_epi8(first, second));
    const __m256i upper = eight_bits(_mm256_unpackhi_epi8(first, second));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_packus_epi16(lower, upper));
  }
  return i;
}
#else
int64_t weigh_avx2(const uint8_t*, const uint8_t*, uint8_t*, int64_t, int) { return 0; }
#endif
int64_t weigh_avx2(const int8_t*, const int8_t*, int8_t*, int64_t, int) { return 0; }

template <class Level>
void mix_levels(const uint8_t* a, const uint8_t* b, uint8_t* out, int64_t values, double weight) {
  const double whole = weight * (1 << kWeightBits);
  if (whole != std::floor(whole)) {
    fail(GL_BAD_CALL, "%g is no weight of %d bits", weight, kWeightBits);
  }
  const Level* first = reinterpret_cast<const Level*>(a);
  const Level* second = reinterpret_cast<const Level*>(b);
  Level* to = reinterpret_cast<Level*>(out);
  const int levels = static_cast<int>(whole);
  const int64_t done = uses_avx2() ? weigh_avx2(first, second, to, values, levels) : 0;
  weigh(first, second, to, done, values, levels);
}

template <class Dtype>
void mix_floats(const uint8_t* a, const uint8_t* b, uint8_t* out, int64_t values, double weight) {
  using Value = typename Dtype::Value;
  const Value* first = reinterpret_cast<const Value*>(a);
  const Value* second = reinterpret_cast<const Value*>(b);
  Value* __restrict to = reinterpret_cast<Value*>(out);
  const float w = static_cast<float>(weight), rest = static_cast<float>(1.0 - weight);
  for (int64_t i = 0; i < values; i++) {
    to[i] =
        Dtype::write(static_cast<float>(Dtype::read(first[i])) * w + static_cast<float>(Dtype::read(second[i])) * rest);
  }
}

void weighed(const Image& in, const uint8_t* other, double weight, uint8_t* out) {
  const int64_t values = in.height * in.row_values();
  switch (in.dtype) {
    case GL_UINT8: return mix_levels<uint8_t>(in.data, other, out, values, weight);
    case GL_INT8: return mix_levels<int8_t>(in.data, other, out, values, weight);
    case GL_FLOAT16: return mix_floats<Float16>(in.data, other, out, values, weight);
    case GL_BFLOAT16: return mix_floats<Bfloat16>(in.data, other, out, values, weight);
    default: return mix_floats<Float32>(in.data, other, out, values, weight);
  }
}

}  // namespace

void mix(const Image& in, const uint8_t* other, double weight, const Window& box, uint8_t* out) {
  if (!(weight >= 0.0 && weight <= 1.0)) {
    fail(GL_BAD_CALL, "%g is no weight from 0 to 1", weight);
  }
  if (weight == 1.0) {
    memcpy(out, in.data, in.bytes());
  } else {
    weighed(in, other, weight, out);
  }
  const int64_t first = box.left * in.pixel_bytes(), bytes = box.width * in.pixel_bytes();
  for (int64_t y = box.top; y < box.top + box.height; y++) {
    const int64_t at = y * in.row_bytes() + first;
    memcpy(out + at, other + at, bytes);
  }
}

}  // namespace greenload
