#include "filters.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstring>

#include "rows.h"
#include "values.h"

namespace greenload {

namespace {

// Values of a row with what lies around them: the value `step` to the left and to the right of one is its neighbour's,
// and columns[i] is the sum of value i, the one above it and the one below it.
struct Line {
  const uint8_t* values;
  const uint16_t* columns;
  int64_t step;

  int weighted(int64_t i) const { return columns[i - step] + columns[i] + columns[i + step] + 4 * values[i]; }
};

// As the reference: each operation rounded to float64.
uint8_t sharpened(const Line& line, int64_t i, double factor) {
  return as_uint8(line.values[i] * factor + line.weighted(i) / 13.0 * (1.0 - factor) + 0.5);
}

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2")))

constexpr double kMostFactor = 0x1p20;  // with which no sum leaves the range of int32

// 8 values in float32, rounded half up; `unsure` isn't 0 where float64 may round to the other side.
AVX2 inline __m256i eight(__m256i values, __m256i sums, __m256 factor, __m256 rest, __m256 sure, int* unsure) {
  const __m256 half = _mm256_set1_ps(0.5f);
  const __m256 whole =
      _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(values), factor), _mm256_mul_ps(_mm256_cvtepi32_ps(sums), rest));
  const __m256 raised = _mm256_add_ps(whole, half), rounded = _mm256_floor_ps(raised);
  const __m256 place = _mm256_sub_ps(_mm256_sub_ps(raised, rounded), half);  // −½ … ½ from one integer to the next
  const __m256 distance = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), place);
  *unsure = _mm256_movemask_ps(_mm256_cmp_ps(distance, sure, _CMP_GE_OQ));
  return _mm256_cvttps_epi32(rounded);
}

// 16 values in float64.
AVX2 __m256i sixteen_exactly(__m256i values, __m256i sums, double factor) {
  const __m256d f = _mm256_set1_pd(factor), rest = _mm256_set1_pd(1.0 - factor);
  const __m256d thirteen = _mm256_set1_pd(13.0), half = _mm256_set1_pd(0.5);
  auto four = [&](__m128i value, __m128i sum) AVX2 {
    const __m256d own = _mm256_mul_pd(_mm256_cvtepi32_pd(_mm_cvtepi16_epi32(value)), f);
    const __m256d around = _mm256_div_pd(_mm256_cvtepi32_pd(_mm_cvtepi16_epi32(sum)), thirteen);
    return _mm256_cvttpd_epi32(_mm256_add_pd(_mm256_add_pd(own, _mm256_mul_pd(around, rest)), half));
  };
  auto eight = [&](__m128i value, __m128i sum) AVX2 {
    return _mm_packs_epi32(four(value, sum), four(_mm_srli_si128(value, 8), _mm_srli_si128(sum, 8)));
  };
  return _mm256_inserti128_si256(
      _mm256_castsi128_si256(eight(_mm256_castsi256_si128(values), _mm256_castsi256_si128(sums))),
      eight(_mm256_extracti128_si256(values, 1), _mm256_extracti128_si256(sums, 1)), 1);
}

// Returns how many values from `i` on are done.
AVX2 int64_t sharpen_avx2(const Line& line, int64_t i, int64_t end, double factor, uint8_t* out) {
  const int64_t first = i;
  const __m256 f = _mm256_set1_ps(static_cast<float>(factor));
  const __m256 g = _mm256_set1_ps(static_cast<float>((1.0 - factor) / 13.0));
  // Both products are at most 255 times their factor. Each is rounded twice, and the sums once more: by 2⁻²⁴ of that at
  // most. The bound is twice as large.
  const double most = 255.0 * (factor + std::fabs(1.0 - factor)) + 1.0;
  const __m256 sure = _mm256_set1_ps(static_cast<float>(0.5 - most * 0x1p-21));
  for (; i + 16 <= end; i += 16) {
    const __m256i values = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(line.values + i)));
    auto columns = [&](int64_t at)
                       AVX2 { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line.columns + at)); };
    __m256i sums = _mm256_add_epi16(_mm256_add_epi16(columns(i - line.step), columns(i)), columns(i + line.step));
    sums = _mm256_add_epi16(sums, _mm256_slli_epi16(values, 2));
    int unsure, more;
    const __m256i low = eight(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(values)),
                              _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sums)), f, g, sure, &unsure);
    const __m256i high = eight(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(values, 1)),
                               _mm256_cvtepi16_epi32(_mm256_extracti128_si256(sums, 1)), f, g, sure, &more);
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
    if (unsure | more) {
      words = sixteen_exactly(values, sums, factor);
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  return i - first;
}
#else
constexpr double kMostFactor = -1.0;
int64_t sharpen_avx2(const Line&, int64_t, int64_t, double, uint8_t*) { return 0; }
#endif

}  // namespace

void sharpen(const Image& in, double factor, Buffer& memory, uint8_t* out) {
  const int64_t values = in.row_values(), step = in.channels;
  uint16_t* const columns = memory.of<uint16_t>(static_cast<size_t>(values));
  const bool vectors = uses_avx2() && factor <= kMostFactor;
  memcpy(out, in.data, values);
  out += values;
  for (int64_t y = 1; y + 1 < in.height; y++, out += values) {
    const uint8_t *above = in.row(y - 1), *row = in.row(y), *below = in.row(y + 1);
    for (int64_t i = 0; i < values; i++) {
      columns[i] = static_cast<uint16_t>(above[i] + row[i] + below[i]);
    }
    memcpy(out, row, step);
    const Line line = {row, columns, step};
    int64_t i = step;
    i += vectors ? sharpen_avx2(line, i, values - step, factor, out) : 0;
    for (; i < values - step; i++) {
      out[i] = sharpened(line, i, factor);
    }
    memcpy(out + values - step, row + values - step, step);
  }
  memcpy(out, in.row(in.height - 1), values);
}

}  // namespace greenload
